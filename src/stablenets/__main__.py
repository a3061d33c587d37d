"""`python -m stablenets` is `stablenets`."""

from .cli import main

if __name__ == "__main__":
    main()
