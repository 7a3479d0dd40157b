"""A picture is read when it is sent, in a kind that providers take and no larger than asked for."""

import base64
import io
import json

import PIL.Image
import pytest

from llmlab.client.images import from_data_url, has_images, image, kind_of, size_of, with_images_read
from llmlab.errors import EmptyInputError, InputError


def drawn(kind="png", size=(60, 40), mode="RGB", **settings):
    written = io.BytesIO()
    PIL.Image.new(mode, size).save(written, kind, **settings)
    return written.getvalue()


def opened(part):
    return PIL.Image.open(io.BytesIO(from_data_url(part["image_url"]["url"])))


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "webp"])
@pytest.mark.parametrize("settings", [{}, {"lossless": True}])
def test_common_kinds_are_sent_byte_for_byte(kind, settings, tmp_path):
    data = drawn(kind, **settings if kind == "webp" else {})
    (tmp_path / "photo").write_bytes(data)
    assert (kind_of(data), size_of(data)) == (kind, (60, 40))
    for source in (
        str(tmp_path / "photo"),
        tmp_path / "photo",
        data,
        {"bytes": data},
        {"path": str(tmp_path / "photo")},
    ):
        part = image(source, longest=60).read()
        assert part == {
            "type": "image_url",
            "image_url": {"url": f"data:image/{kind};base64,{base64.b64encode(data).decode()}"},
        }


@pytest.mark.parametrize(("kind", "mode"), [("bmp", "RGB"), ("tiff", "CMYK"), ("tiff", "L"), ("ppm", "RGB")])
def test_other_kinds_are_sent_as_png(kind, mode):
    assert opened(image(drawn(kind, mode=mode)).read()).format == "PNG"


@pytest.mark.parametrize(
    ("kind", "sent"), [("png", "PNG"), ("jpeg", "JPEG"), ("gif", "PNG"), ("webp", "PNG"), ("bmp", "PNG")]
)
def test_a_larger_one_is_made_smaller(kind, sent):
    part = image(drawn(kind, size=(300, 200)), longest=30)
    picture = opened(part.read())
    assert (picture.format, picture.size) == (sent, (30, 20))
    if kind != "bmp":
        assert part.size() == (30, 20)


def test_a_photo_stands_as_the_camera_was_held():
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    assert opened(image(drawn("jpeg", size=(300, 200), exif=exif), longest=30).read()).size == (20, 30)


def test_a_size_behind_a_long_header_is_found():
    data = drawn("jpeg", icc_profile=b"x" * 20_000)
    assert data.index(b"ICC_PROFILE") < 100
    assert size_of(data) == (60, 40)
    assert size_of(data[:1000]) is None


def test_the_web_and_data_are_sent_as_they_are():
    for url in ("https://example.org/a.jpg", "gs://bucket/a.jpg"):
        part = image(url, longest=5, detail="low")
        assert part.read() == {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
        assert part.size() is None
        part.check()
    url = f"data:image/png;base64,{base64.b64encode(drawn()).decode()}"
    assert image(url).read()["image_url"]["url"] == url
    assert image(url).size() == (60, 40)


def test_until_it_is_read_it_shows_its_name_and_nothing_of_its_data():
    shown = json.dumps([image("a/b.jpg"), image(drawn()), image(f"data:image/png;base64,{'A' * 1000}")])
    assert "a/b.jpg" in shown
    assert len(shown) < 400


def test_messages_get_the_data_in_place():
    text = {"type": "text", "text": "What?"}
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": [text, image(drawn())]}]
    read = with_images_read(messages)
    assert (has_images(messages), has_images(read)) == (True, False)
    assert read[0] == messages[0]
    assert read[1]["content"][0] == text
    assert opened(read[1]["content"][1]).size == (60, 40)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("not/there.png", r"not/there\.png cannot be read: No such file"),
        (b"%PDF-1.7 text", "cannot be read as one"),
        (drawn("bmp")[:60], "cannot be read as one"),
        ("data:image/png;base64,A", "no base64"),
    ],
)
def test_what_is_no_picture_says_so(source, said):
    with pytest.raises(EmptyInputError, match=said):
        image(source).read()


@pytest.mark.parametrize("source", [None, "", b"", 5, {"bytes": None, "path": None}, ["a.png"]])
def test_only_pictures_are_taken(source):
    with pytest.raises(InputError, match="takes a path, the bytes of a picture"):
        image(source)


@pytest.mark.parametrize("longest", [0, -1, 1.5, True, "1024"])
def test_a_side_is_a_number_of_pixels(longest):
    with pytest.raises(InputError, match="whole number of pixels"):
        image("a.png", longest)
