"""python -m mmgen: the mmgen command; --cflags prints what to compile with, for #include <mmgen.h>, and needs no extra."""
import shlex
import sys

from mmgen import get_include

if __name__ == "__main__":
    if sys.argv[1:] == ["--cflags"]:
        print("-I" + shlex.quote(get_include()))
    else:
        from mmgen.cli import main
        sys.exit(main())
