"""python -m mmgen: the mmgen command; --cflags prints what to compile with, for #include <mmgen.h>, and needs no extra."""
import shlex
import sys

from mmgen import get_include


def main() -> int:
    """The exit status."""
    if sys.argv[1:] == ["--cflags"]:
        print("-I" + shlex.quote(get_include()))
        return 0
    from mmgen import cli  # noqa: PLC0415 - needs an extra
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
