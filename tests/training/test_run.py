from pathlib import Path

import pytest

from training.run import usable_precision

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="asks Linux what the CPU can")
def test_bfloat16_is_used_where_the_cpu_has_instructions_for_it():
    flags = CPUINFO.read_text().split()
    fast = bool({"avx512_bf16", "amx_bf16"} & set(flags))
    assert usable_precision("bf16") == ("bf16" if fast else "no")
    assert usable_precision("no") == "no"
