# One thing that a CPU of a recorded machine does.
from libc.stdint cimport int64_t, int32_t, uint32_t

cdef enum:
    USER, KTHREAD, IDLE                 # a switch to a task with an mm, to one without, to the idle task
    TICK
    EXIT                                # the CPU's task gives up its mm, and goes on as a kernel thread
    EXEC                                # the CPU's task gets a new mm
    TEARDOWN                            # of an mm that no task has any more

cdef packed struct step:                # steps.py has the same as a numpy dtype
    int64_t t
    uint32_t cpu
    int32_t tid                         # USER, KTHREAD, IDLE: who comes; else who did it
    int32_t mm                          # USER, EXEC: the mm that the CPU's task has from here on; TEARDOWN: which; else 0
    unsigned char what
    unsigned char made_up               # not recorded, but it must have happened by now
    unsigned char pad[2]
