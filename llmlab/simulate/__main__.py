"""`python -m llmlab.simulate`: a simulated provider in the foreground."""

from llmlab.simulate.server import main

if __name__ == "__main__":
    main()
