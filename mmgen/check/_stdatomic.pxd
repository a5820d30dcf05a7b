# What mmgen/_stdatomic.pxd declares, for the checked copy of the source: here every access is a step of the search.
from mmgen._stdatomic cimport (
    atomic_u32, atomic_u64, memory_order, memory_order_acq_rel, memory_order_acquire, memory_order_relaxed, memory_order_release,
    memory_order_seq_cst,
)
from mmgen.check._steps cimport (
    cas_u32, cas_u64, exchange_u32, fence, fetch_add_u32, fetch_add_u64, fetch_sub_u32, fetch_sub_u64, load_u32, load_u64,
    store_u32, store_u64,
)
