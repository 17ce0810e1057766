"""`python -m temper`: the same as the command `temper`."""

from temper.cli.main import main

if __name__ == "__main__":
    main()
