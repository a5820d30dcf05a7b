from typing import Any

_C_API: Any     # the capsule of the table that include/mmgen.h describes
