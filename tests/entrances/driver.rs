//! A simulator in Rust: the table and the domain come as addresses. What is not called is not spelled out.
#[repr(C)]
pub struct Api {
    abi: u32,
    sizes: [u32; 4],
    max_cpus: u32,
    mm_switch: extern "C" fn(*mut u8, u32),
    mm_gen_tick: extern "C" fn(*mut u8, u32) -> i32,
    mm_gen_tick_wanted: extern "C" fn(*mut u8, u32, u64) -> i32,
    mm_gen_wake: extern "C" fn(*mut u8),
    mm_gen_quiescent: extern "C" fn(*mut u8, u32),
    mm_gen_start_poll: extern "C" fn(*mut u8) -> u64,
    mm_gen_poll: extern "C" fn(*mut u8, u64) -> i32,
}

/// How many rounds of a switch and a tick on each CPU a grace period takes; -1: another ABI.
#[no_mangle]
pub extern "C" fn drive(api: &Api, g: *mut u8, cpus: u32) -> i64 {
    if api.abi != 1 {
        return -1;
    }
    let cookie = (api.mm_gen_start_poll)(g);
    let mut rounds = 0;
    while (api.mm_gen_poll)(g, cookie) == 0 {
        for cpu in 0..cpus {
            (api.mm_switch)(g, cpu);
            if (api.mm_gen_tick)(g, cpu) != 0 {
                (api.mm_gen_wake)(g);
            }
        }
        rounds += 1;
    }
    rounds
}
