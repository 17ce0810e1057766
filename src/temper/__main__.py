"""`python -m temper`: the same as the command `temper`."""

from temper.cli import main

if __name__ == "__main__":
    main()
