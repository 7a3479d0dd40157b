"""What a simulated model says: a keyword model for categories, plausible values for schemas, else a sentence."""

from __future__ import annotations

import contextlib
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

# Stems by category, two points and one, searched in the casefolded text; "_" is a space.
_KEYWORDS = {
    "account": (
        """
        password passwor passwort hasł contraseña mot_de_passe senha パスワード كلمة_المرور login log_in log-in
        zalogow ログイン anmeld sign_in signed_in signed_me sign-in sign-up signing_up sign_up verif two-factor
        two-step passcode username account _konto _compte_ _cuenta_ アカウント حساب profile register locked_out
        suspended personal_data _admin access_to household_to all_other_sessions
        """,
        """
        _email mailbox _user _member _invite code_ surname address hand_over take_over _guest owner security
        let_me_in
        """,
    ),
    "billing": (
        """
        refund reembols rimbors rembours erstatt zwrot_pien استرداد 返金 invoice receipt factur fatura rechnung
        faktur فاتور 請求 charged billed _bill_ billing voucher coupon _vat_ _tax_ fees gift_card payment paying
        pagament zahlung płatnoś instalment bank_transfer money_back mony_back my_money discount price subscri abonn
        renew currency _owe_ dunning i_paid credited free_trial balance
        """,
        """
        _pay_ _paid _cost _card _plan_ _bank _statement euros amount checkout tarjeta geld trial settle
        """,
    ),
    "bug": (
        """
        crash error erorr fehler erreur _fallo _bug glitch freez broke doesn't_work not_working stopped_working
        stuck flicker reboots defekt funktioniert_nicht funziona plante no_funciona não_funciona błąd nie_działa
        不具合 エラー عطل خطأ foutmelding won't_scan smell_of failed_to out_of_memory blinking undefined upside_down
        keeps_losing ->_500
        """,
        """
        _update firmware _version _bridge won't can't_read instead_of reset _fix_ _app_ nothing_lights _drops_
        go_off empty_file lost_all every_night lights_up turns_itself jumps dies _late does_nothing half_the
        yesterday's_state
        """,
    ),
    "delivery": (
        """
        deliver parcel parcle _paket _colis paquete pacote paczk dostaw entrega livraison _envío lieferung versand
        spedizion kargo teslim shipment shipping shipped ships_in _ship_ courier carrier tracking seguimiento śledz
        suivi 荷物 配送 届き الشحن طرد backorder customs dispatch driver lorry transit in_pieces letterbox
        return_label returned_to_sender where_is_it preorder still_waiting not_here_yet
        """,
        """
        _arriv _box_ _order packed package missing_from carton truck _sent_me waiting _door came. sign_for
        signed_for someone_else's return_box
        """,
    ),
    "feature": (
        """
        feature please_add add_a_ add._a could_you_add could_u_add option_to would_be_great would_be_cool
        would_be_nicer really_useful be_cool suggestion roadmap any_plans i_wish wishes i'd_love_to ajouter agregar
        añadir adicionar aggiungere hinzufüg wünsch wäre_schön dodać funkcj 追加 機能 ميزة إضافة please_support
        support_for _idea_ i'm_missing what's_missing dark_theme larger_text perhaps would_help have_you_thought
        my_year
        """,
        """
        could_the _let_ mode _dark_ would_be nicer heaven one_could shortcuts enough _undo per_lamp custom i'd_use
        i'd_pay scenes_ please,say
        """,
    ),
    "other": (
        """
        thank_you thanks_to grazie danke merci obrigad gracias dzięk ありがと شكر hello,_any opening_hours hiring
        sponsor partnership thesis press_ magazine showroom survey christmas recommend your_blog homepage dispose
        is_it_safe phone_line founder contest advert nvm pizza complimenti 店
        """,
        """
        good_morning morning! shop_in best_lamp bless song company vegan which_bulb video how_many honest
        """,
    ),
}
_STEMS = {
    category: tuple((stem.replace("_", " "), points) for points, stems in zip((2, 1), pair, strict=True)
                    for stem in stems.split())
    for category, pair in _KEYWORDS.items()
}  # fmt: skip
# Shares of data/tickets.csv: where the best category by keywords is right, and how much one flip costs.
_KEYWORDS_RIGHT, _FLIP_COST = 0.96, 0.90
_QUOTED = r'"(?:[^"\\\n]|\\.)*"'
# How llmlab asks for a category or a schema, or how people list categories.
_FORM = rf'\{{"\w+": (?:(?!"<){_QUOTED}|-?[\d.]+)\}}'
_ASKED = re.compile(
    rf"(?:The categories:\n(?:- [^\n]*\n)+\n)?Answer with JSON only: (?P<forms>{_FORM}(?:(?:, | or ){_FORM})*)\.?|"
    rf"(?:Answer with[^\n]*?)?one of:?\s*(?P<list>{_QUOTED}(?:\s*(?:,\s*)?(?:or\s+|and\s+)?{_QUOTED})*)\.?"
    r"|Answer with JSON only, matching this JSON schema: (?P<schema>\{[^\n]*)"
)
_KEY = re.compile(r'\{"(\w+)": "<')


@lru_cache
def _enumeration(categories: tuple[str, ...]) -> re.Pattern[str]:
    """Two or more of the categories in a row: the prompt's words, not the text's."""
    names = "|".join(re.escape(name.casefold()) for name in categories)
    return re.compile(rf"(?:\b(?:{names})\b(?:\W+(?:(?:or|and|an?)\W+)*|$)){{2,}}")


@dataclass
class Reader:
    """Reads one text; `draw` is this time's luck, 0-1."""

    text: str
    accuracy: float
    draw: float
    picked: list[str] = field(default_factory=list)

    def pick(self, categories: Sequence[str]) -> str:
        """The category with the most keywords, or the second, the more often the harder the text is."""
        low = _enumeration(tuple(categories)).sub(" ", f" {' '.join(self.text.casefold().split())} ")
        scored = sorted(((_score(low, name), _chance(low + name), name) for name in categories), reverse=True)
        margin = scored[0][0] - scored[1][0] if len(scored) > 1 else 9.0
        hardness = 3 * _chance(low) ** 2 * (1.3 if margin < 2 else 0.7)
        flip = max(0.0, _KEYWORDS_RIGHT - self.accuracy) / _FLIP_COST * hardness
        self.picked.append(scored[len(scored) > 1 and self.draw < flip][2])
        return self.picked[-1]

    def rate(self, numbers: Sequence[Any]) -> Any:
        """One of the numbers, or the next one, the more often the less accurate."""
        at = int(_chance(self.text) * len(numbers))
        off = self.draw < 1 - self.accuracy
        return numbers[at - 1 if off and at else min(at + off, len(numbers) - 1)]

    def fill(self, schema: Any, root: Any, name: str = "", depth: int = 0) -> Any:
        """A value that fits a JSON schema."""
        if not isinstance(schema, dict) or depth > 20:
            return None
        # A schema that contains itself must end.
        deep = depth > 6
        again: Callable[[Any, str], Any] = lambda part, key: self.fill(part, root, key, depth + 1)  # noqa: E731
        if "$ref" in schema:
            return again(root.get("$defs", {}).get(schema["$ref"].rsplit("/", 1)[-1]), name)
        if "const" in schema:
            return schema["const"]
        if "enum" in schema:
            words = [member for member in schema["enum"] if isinstance(member, str)]
            return self.pick(words) if words else self.rate(schema["enum"])
        for union in ("anyOf", "oneOf", "allOf"):
            if union in schema:
                fitting = (part for part in schema[union] if (part.get("type") == "null") == deep)
                return again(next(fitting, schema[union][0]), name)
        kind = schema.get("type")
        kind = next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else kind
        if kind == "object" or "properties" in schema:
            required = schema.get("required", ())
            return {k: again(p, k) for k, p in schema.get("properties", {}).items() if k in required or not deep}
        if kind == "array":
            count = max(schema.get("minItems", 0), min(1 - deep, schema.get("maxItems", 1)))
            prefix = schema.get("prefixItems", [])
            items = [again(part, name) for part in prefix]
            return items + [again(schema.get("items", {}), name) for _ in range(count - len(items))]
        if kind in ("integer", "number"):
            return _number(schema, kind == "integer", _chance(self.text + name))
        if kind == "boolean":
            return _chance(self.text + name) < 0.5
        return None if kind == "null" else _string(schema, self.text, name)


def _chance(text: str) -> float:
    return zlib.crc32(text.encode("utf-8", "replace")) / 2**32


def _score(low: str, category: str) -> float:
    name = category.casefold()
    stems = _STEMS.get(name) or ((name.replace("_", " ").rstrip("s"), 3),)
    return sum(points for stem, points in stems if stem in low) + (0.9 if name == "other" else 0)


def _number(schema: Mapping[str, Any], whole: bool, chance: float) -> float:
    step = schema.get("multipleOf", 1 if whole else 0)
    low = schema.get("minimum", schema["exclusiveMinimum"] + step if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - step if "exclusiveMaximum" in schema else None)
    if low is None:
        low = 0 if high is None or high > 0 else high - 10
    high = low + (10 if whole else 1) if high is None else high
    # Away from both ends, which may be exclusive.
    value = low + (high - low) * (0.1 + 0.8 * chance)
    if not step:
        return round(value, 3) if low < round(value, 3) < high else value
    value = round(value / step) * step
    value += step if value < low else -step if value > high else 0
    return int(value) if whole else value


def _string(schema: Mapping[str, Any], text: str, name: str) -> str:
    known = {
        "date": "2026-01-15", "date-time": "2026-01-15T10:30:00Z", "time": "10:30:00Z", "email": "a@example.com",
        "uri": "https://example.com", "uuid": "6f1c1f0e-7c3b-4f53-9d9e-2d6f6f1f2a11", "duration": "P1D",
    }  # fmt: skip
    found = known.get(schema.get("format", "")) or " ".join(text.split()[:8]) or name or "simulated"
    return found.ljust(schema.get("minLength", 0), ".")[: schema.get("maxLength", 200)]


def texts_of(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The text of each message; parts of a list are joined."""
    contents = [message.get("content") for message in messages]
    return [
        content
        if isinstance(content, str)
        else "\n".join(str(part.get("text", "")) for part in content or () if isinstance(part, dict))
        for content in contents
    ]


def say(body: Mapping[str, Any], texts: Sequence[str], reader: Reader) -> str:
    """The answer's text: a schema's value, a category, or a sentence."""
    form, prompt = body.get("response_format"), "\n".join(texts)
    schema = form.get("json_schema", {}).get("schema") if isinstance(form, dict) else None
    users = [text for text, message in zip(texts, body["messages"], strict=True) if message.get("role") == "user"]
    reader.text = _ASKED.sub(" ", (users or texts)[-1]).strip() or prompt
    asked = list(_ASKED.finditer(prompt))
    if not schema and asked and asked[-1]["schema"]:
        with contextlib.suppress(ValueError):
            schema = json.JSONDecoder().raw_decode(asked[-1]["schema"])[0]
    if schema:
        return json.dumps(reader.fill(schema, schema), ensure_ascii=False)
    if asked and asked[-1]["forms"]:
        forms = [json.loads(form) for form in re.findall(_FORM, asked[-1]["forms"])]
        ((key, _),) = forms[0].items()
        labels = [form[key] for form in forms]
        label = reader.pick(labels) if isinstance(labels[0], str) else reader.rate(labels)
        return json.dumps({key: label}, ensure_ascii=False)
    if asked and asked[-1]["list"]:
        label = reader.pick([json.loads(name) for name in re.findall(_QUOTED, asked[-1]["list"])])
        key = _KEY.search(prompt)
        return json.dumps({key[1] if key else "label": label}, ensure_ascii=False) if "JSON" in prompt else label
    return f"This is a simulated answer to a text of {len(reader.text.split())} words."


def spoil(content: str, picked: Sequence[str], draw: float) -> tuple[str, str]:
    """The same answer, unreadable, and its finish reason."""
    kind = int(draw * 4)
    if kind == 0:
        return content[: max(1, len(content) // 2)], "length"
    if kind == 1:
        return "That is hard to say, it depends on how one looks at it.", "stop"
    if kind == 2 and picked:
        unknown = "something else entirely"
        quoted = json.dumps(picked[-1], ensure_ascii=False)
        return f'"{unknown}"'.join(content.rsplit(quoted, 1)) if quoted in content else unknown, "stop"
    return '{"label": }', "stop"
