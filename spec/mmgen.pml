/* The protocol of mmgen/_core.pyx, whole but for closing, forking and memory order: every order of every step, to closure.
 *
 *   python spec/run.py            what closes and in what time; README.md beside this file has the figures
 *   -DNCPUS=n -DNWAITERS=n        n threads that are CPUs, n that wait
 *   -DCONTINUOUS                  ticks count also while nobody waits
 *   -DDRAIN                       liveness: at any moment the world may turn quiet; then every waiter must still be released
 *   -DDRAIN -DENDS                and what is left to do after that moment is finite (a claim; pan -a with -DNOSTUTTER)
 *   -DONE_SHORT_ON_DEMAND ...     broken variants, each marked BROKEN below; run.py lists them with a configuration that refutes each
 *
 * What is shown: a wait returns only when every CPU that ran when it began has switched, idled or gone offline since (the assertion in
 * advance()); complete is the number of debts and holds in every state (Monitor); complete never goes below 0; a tick is at most one
 * generation late, and then pays nothing; and (DRAIN) nobody is forgotten.
 *
 * THE ABSTRACTION. Generations, goals, cookies and counters grow for ever; the state does not, because the code only compares them.
 *
 *   nr_mm_switches, mm_switches[2]   The code compares a CPU's three words with each other, by == and by <, and writes into a snapshot
 *       only the counter itself. So their order is all there is: NOW is the counter, 1 and 0 are less. A counter that moves on leaves
 *       snapshots that were NOW behind it; what a CPU keeps while offline is overwritten before it is read, and kept as 0.
 *   generation   Its parity, and what others remember of it, counted from the present one: age[p] - 1 is how many generations have
 *       opened since thread p loaded generation (0: it remembers none). advance() moves all of these when a generation opens.
 *       Five is as old as a memory gets: a target is at most 3 ahead, so 4 generations late or more is the same: it is over.
 *   goal   ahead = goal - generation. It is at most 3 and, on demand, never below -1 (asserted). Continuous counting takes it lower,
 *       but then the code asks only whether goal - generation > 0 and which of two targets is higher: all below 0 is the same.
 *   cookies   Counted from the present generation, 0 once reached; need is the set of CPUs that owe this wait a switch.
 *   pending   Its three fields, one word: only ever written in one step.
 * Signed difference is exact while less than 2^63 generations pass within one memory: an assumption of the code too. The futex compares
 * 32 bits of generation: that 2^32 generations do not open between a waiter's load and its sleep is assumed here.
 *
 * A STEP is one access to a word that another thread may write or read at that moment, with the thread's own work after it. Joined into
 * one step, by Lipton's rule, are only accesses that no other thread can come between to any effect: taking the lock with a load that
 * follows it and is always possible; the last access under the lock with its release; while the generation is held, what reads it; while
 * the lock is held, what only its holder reads or writes (goal, online, nr_cpus, nr_waits, any mode but IDLE and PROXIED); after a claim, the line
 * claimed, and putting it back. Waiting (lock, yield, futex) is a step that is not yet possible.
 * mm_gen_poll, mm_gen_wait_for's spinning and a timeout are the Waiter's choices at `again`. Memory is sequentially consistent: the
 * orders are litmus/'s subject.
 *
 * A line "models file:function sha256:..." fits the source it was written from; tests/test_spec.py fails when that source changes.
 */
#ifndef NCPUS
#define NCPUS 1
#endif
#ifndef NWAITERS
#define NWAITERS 2
#endif
#ifdef CONTINUOUS
#define ALWAYS true
#else
#define ALWAYS false
#endif
#ifdef ONE_SHORT_ON_DEMAND              /* BROKEN: 1 instead of 2 generations where nobody waited */
#define ON_DEMAND_TAKES 1
#else
#define ON_DEMAND_TAKES 2
#endif
#ifdef ONE_SHORT_JOINING                /* BROKEN: 2 instead of 3 where a generation is under way */
#define JOINING_TAKES 2
#else
#define JOINING_TAKES 3
#endif

#define OFFLINE 0
#define RUNNING 1
#define IDLE    2
#define PROXIED 3

#define NOW     2
#define OLDEST  5

/* mm_cpu, mm_gen, mm_control, as mm_gen_create leaves them. */
/* models _lifetime.pyx:mm_gen_create sha256:e11bb9e95760 */
typedef mm_cpu { byte snap[2]; byte mode };
mm_cpu cpu[NCPUS];
bit parity;                             /* generation & 1 */
short ahead;                            /* goal - generation */
byte online; bit tagged; byte complete; /* pending: [online | parity | complete] */
bit lock;
byte sleepers;
bit asleep[NWAITERS];                   /* in the futex's queue */

/* What a thread remembers, relative to the present generation (see above). */
byte age[NCPUS + NWAITERS];
byte seen_ahead[NCPUS];                 /* waited_for's load of goal, at idle_enter; 0 if it is not ahead (any more) */
byte cookie[NWAITERS];

/* Ghosts: the code has no such words. */
bit draining;
byte held;                              /* holds on the generation */
bit moving;                             /* pending is of the next generation's parity, generation not yet */
bit counted[NCPUS];                     /* in online */
bit paying[NCPUS];                      /* its debt is in complete though its line does not say so (any more, yet) */
byte need[NWAITERS];                    /* the CPUs that have not been quiescent since this wait began */
byte i;                                 /* 0 between steps */

#define me           _pid
#define LAG(p)       (age[p] - 1)
#define GEN(p)       (parity ^ (LAG(p) & 1))                    /* the parity of the generation that p loaded */
#define WANTED(p)    (ahead + LAG(p) > 0 || ALWAYS)             /* goal, loaded now, against the generation that p loaded */
/* models _core.pyx:owes sha256:3769da834db6 */
#define OWES(c, par) (cpu[c].snap[par] < cpu[c].snap[1 - (par)])

inline snapshot(c, par) {               /* mm_switches[par] = nr_mm_switches */
	cpu[c].snap[par] = NOW;
	if :: cpu[c].snap[1 - (par)] < NOW -> cpu[c].snap[1 - (par)] = NOW - 1 :: else fi
}

/* models _core.pxd:mm_switch sha256:f13cf98df07d */
inline count_switch(c) {
	if :: cpu[c].snap[0] == NOW || cpu[c].snap[1] == NOW -> cpu[c].snap[0]--; cpu[c].snap[1]-- :: else fi
}

inline quiescent(c) {
	for (i : 0 .. NWAITERS - 1) { need[i] = need[i] & ~(1 << c) }
	i = 0
}

/* generation += n. A cookie that is reached is a wait that may return: THE PROMISE is asserted here. */
inline advance(n) {
	parity = parity ^ ((n) & 1);
#ifndef CONTINUOUS
	assert(ahead - (n) >= -1);
#endif
	ahead = (ahead - (n) < -1 -> -1 : ahead - (n));
	for (i : 0 .. NCPUS + NWAITERS - 1) { age[i] = (age[i] == 0 -> 0 : (age[i] + (n) > OLDEST -> OLDEST : age[i] + (n))) }
	for (i : 0 .. NCPUS - 1) { seen_ahead[i] = (seen_ahead[i] < (n) -> 0 : seen_ahead[i] - (n)) }
	for (i : 0 .. NWAITERS - 1) {
		if
		:: cookie[i] == 0
		:: cookie[i] > (n) -> cookie[i] = cookie[i] - (n)
		:: else -> cookie[i] = 0; assert(need[i] == 0)
		fi
	}
	i = 0
}

inline acquire() { d_step { lock == 0 -> lock = 1 } }

/* Two stores. tells: whether the caller's result says that it opened. */
/* models _core.pyx:open_next sha256:04940bb58345 */
inline open_next(tells) {
	d_step { assert(!moving); tagged = !was_tagged; online = was_online; complete = was_online; moving = 1; was_tagged = 0; was_online = 0 };
	d_step { assert(LAG(me) == 0); advance(1); moving = 0; age[me] = 0; opened = opened | tells }
}

/* After the load of generation (age[me] = 1): load goal and do what is the CPU's own; pay; open. */
/* models _core.pxd:mm_gen_tick sha256:13c519dff883 */
/* models _core.pyx:mm_gen_tick_wanted sha256:09ed81b26f38 */
/* A tick whose patience runs out returns true as well, and a wake follows. Here a CPU that runs may wake whenever it likes: that is more.
 * What kick_holdouts and mm_gen_expedite do under the lock nothing else here reads; and a kicked CPU switches and ticks, as it may anyway.
 * In a drain no patience runs out: waits must end without that. */
/* models _core.pxd:mm_gen_quiescent sha256:e4e3697040dd */
/* models _core.pyx:impatient sha256:d2fdb6cb121c */
/* models _core.pyx:kick_holdouts sha256:c42f8cc41d06 */
/* models _core.pyx:mm_gen_expedite sha256:982ceeb9671c */
#ifdef NO_WAKE
#define IMPATIENT false
#else
#define IMPATIENT FREE
#endif
#define SWITCHED(c)  (cpu[c].snap[1 - GEN(c)] != NOW)
inline tick() {
	if
	:: d_step { !WANTED(me) -> age[me] = 0 } -> goto main
	:: d_step { WANTED(me) && !(SWITCHED(me) && OWES(me, GEN(me))) -> assert(LAG(me) <= 1);
		if :: SWITCHED(me) -> snapshot(me, GEN(me)) :: else fi;
		age[me] = 0 } -> goto main
	:: d_step { WANTED(me) && SWITCHED(me) && OWES(me, GEN(me)) -> assert(LAG(me) <= 1);
		snapshot(me, GEN(me)); paying[me] = 1 }
	fi;
	if
	:: d_step { complete != 1 -> assert(complete > 0); complete--; paying[me] = 0; age[me] = 0 } -> goto main
	:: d_step { complete == 1 -> complete--; paying[me] = 0; was_tagged = tagged; was_online = online }
	fi;
	open_next(0)
}

/* The swap; then the generation of the parity that was swapped, which every caller loads together with what it does next (AT_REST). */
/* models _core.pyx:hold sha256:794d16ec6a28 */
inline hold() {
#ifdef PARITY_FROM_GENERATION           /* BROKEN: the parity waited for is not the one swapped but generation's, from before */
	was_tagged = parity;
	d_step { complete > 0 -> complete++; held++ }
#else
	d_step { complete > 0 -> complete++; held++; was_tagged = tagged }
#endif
}
#ifdef NO_PARITY_WAIT                   /* BROKEN: does not wait for an opener that has stored pending and not yet generation */
#define AT_REST true
#else
#define AT_REST (parity == was_tagged)
#endif

/* if :: drop() :: drop_last(); open_next() fi */
/* models _core.pyx:release sha256:363ad5a26e20 */
inline drop() { d_step { complete != 1 -> assert(complete > 0); complete--; held--; age[me] = 0; k = 0 } }
inline drop_last() { d_step { complete == 1 -> complete--; held--; was_tagged = tagged; was_online = online; k = 0 } }

#ifdef NO_CLAIM                         /* BROKEN: nothing keeps the CPU from leaving idle while it is credited */
#define CLAIMABLE (cpu[k].mode == IDLE)
#define CLAIM     skip
#define PUT_BACK  skip
#elif defined(TWO_PROXIES)              /* BROKEN: nothing, and no lock (see wake), keeps a second proxy out; the CPU itself is kept out */
byte proxies[NCPUS];
#define CLAIMABLE (cpu[k].mode == IDLE || cpu[k].mode == PROXIED)
#define CLAIM     cpu[k].mode = PROXIED; proxies[k]++
#define PUT_BACK  proxies[k]--; cpu[k].mode = (proxies[k] > 0 -> PROXIED : IDLE)
#else
#define CLAIMABLE (cpu[k].mode == IDLE)
#endif

/* The look before the hold and the look within; the lock keeps goal still, so a look is a load of generation. The flag `idled` is no step:
 * it is set before any mode is IDLE, so a look that finds it clear ends as one that loads all modes at that moment. */
/* models _core.pyx:waited_for sha256:b8892607ff34 */
/* models _core.pyx:any_idle sha256:f8db1e962381 */
/* models _core.pyx:credit_idle sha256:7e9984491586 */
#ifdef CREDITS_FOREVER                  /* BROKEN: goes on while a CPU is idle, whether or not anybody waits */
#define WAITED_FOR true
#else
#define WAITED_FOR (ahead > 0)
#endif
inline credit_idle() {
	do
	:: !WAITED_FOR -> break
	:: WAITED_FOR ->
		do
		:: d_step { cpu[k].mode != IDLE && k < NCPUS - 1 -> k++ }
		:: d_step { cpu[k].mode != IDLE && k == NCPUS - 1 -> k = 0 } -> goto credited
		:: d_step { cpu[k].mode == IDLE -> k = 0 } -> break
		od;
		hold();
#ifdef NO_RECHECK       /* BROKEN: credits although the goal may have been reached before the hold */
		d_step { AT_REST -> was_tagged = 0; age[me] = 1 };
#else
		if
		:: d_step { AT_REST && WAITED_FOR -> was_tagged = 0; age[me] = 1 }
		:: d_step { AT_REST && !WAITED_FOR -> was_tagged = 0; age[me] = 1 };
			if
			:: drop()
			:: drop_last(); open_next(0)    /* only if continuous; and whom that releases, nobody */
			fi;
			goto credited
		fi;
#endif
		do
		:: d_step { k < NCPUS && !CLAIMABLE -> k++ }
#if defined(NO_CLAIM) || defined(TWO_PROXIES)
		:: d_step { k < NCPUS && CLAIMABLE -> CLAIM };
			if
			:: OWES(k, GEN(me)) -> d_step { assert(complete > 0); count_switch(k); snapshot(k, GEN(me)); complete-- }
			:: !OWES(k, GEN(me))
			fi;
			d_step { PUT_BACK; k++ }
#else
		:: d_step { k < NCPUS && cpu[k].mode == IDLE -> cpu[k].mode = PROXIED };
			d_step {
				if
				:: OWES(k, GEN(me)) -> assert(complete > 0); count_switch(k); snapshot(k, GEN(me)); complete--
				:: else
				fi;
				cpu[k].mode = IDLE; k++ }
#endif
		:: k == NCPUS -> break
		od;
		if
		:: drop() -> break
		:: drop_last(); open_next(1)
		fi
	od;
credited:
}

/* models _core.pyx:mm_gen_wake_sleepers sha256:d7aebc2495be */
inline wake_sleepers() {
	if
	:: sleepers == 0
	:: sleepers > 0 -> d_step { for (i : 0 .. NWAITERS - 1) { asleep[i] = 0 } i = 0 }
	fi
}

/* DRAIN: from some moment on, no wait begins, no CPU changes its mode, none times out; a CPU that runs goes on to switch and to tick
 * where that still pays a debt. (A tick that only moves a baseline is left out: the next switch makes up for it.) Every waiter must then
 * return: one that cannot is an invalid end state, for all but `end_main` are. That nothing goes round for ever is ENDS. */
#ifdef DRAIN
#define FREE (!draining)
#define SWITCH_COUNTS (!draining || cpu[me].snap[0] == NOW || cpu[me].snap[1] == NOW)
#define TICK_COUNTS (!draining || (ahead > 0 && OWES(me, parity) && cpu[me].snap[1 - parity] != NOW))
#else
#define FREE true
#define SWITCH_COUNTS true
#define TICK_COUNTS true
#endif

active [NCPUS] proctype Cpu() {
	byte k;
	byte was_online;
	bit was_tagged;
	bit opened;
end_main:
main:
	if
	:: d_step { cpu[me].mode == RUNNING && SWITCH_COUNTS -> count_switch(me); quiescent(me) } -> goto main
	:: d_step { cpu[me].mode == RUNNING && TICK_COUNTS -> age[me] = 1 } -> goto ticks
	:: cpu[me].mode == RUNNING && IMPATIENT -> goto wake
	:: d_step { cpu[me].mode == RUNNING && FREE -> count_switch(me); quiescent(me); cpu[me].mode = IDLE } -> goto idles
	:: d_step { cpu[me].mode == IDLE && FREE -> cpu[me].mode = RUNNING } -> goto main       /* idle_exit */
	:: d_step { cpu[me].mode == RUNNING && FREE && lock == 0 -> lock = 1 } -> goto leaves
	:: d_step { cpu[me].mode == OFFLINE && FREE && lock == 0 && online > 0 -> lock = 1 } -> goto arrives
	:: d_step { cpu[me].mode == OFFLINE && FREE && lock == 0 && online == 0 ->              /* nobody else touches a thing */
		online = 1; complete = 1; tagged = parity; counted[me] = 1;
		cpu[me].snap[parity] = NOW - 1; cpu[me].snap[1 - parity] = NOW; cpu[me].mode = RUNNING } -> goto main
	fi;

ticks:
	tick();
#ifdef NO_WAKE                          /* BROKEN: opens and tells nobody */
	goto main;
#else
	goto wake;
#endif

/* The mode is stored: load goal, load generation. */
/* models _core.pyx:mm_gen_idle_enter sha256:f5b83644acbe */
/* models _core.pyx:mm_gen_idle_exit sha256:b856515b7064 */
idles:
#ifdef NO_LOOK_AFTER_IDLE               /* BROKEN: does not ask whether somebody began to wait before it idled */
	goto main;
#endif
	if
	:: ahead <= 0 -> goto main
	:: d_step { ahead > 0 -> seen_ahead[me] = ahead }
	fi;
	if
	:: seen_ahead[me] == 0 -> goto main
	:: d_step { seen_ahead[me] > 0 -> seen_ahead[me] = 0 }
	fi;

/* models _core.pyx:mm_gen_wake sha256:7316874af439 */
/* models _core.pyx:mm_gen_announce sha256:95c1fba4d333 */
wake:
#ifndef TWO_PROXIES                     /* the look without the lock */
	do
	:: d_step { cpu[k].mode != IDLE && k < NCPUS - 1 -> k++ }
	:: d_step { cpu[k].mode != IDLE && k == NCPUS - 1 -> k = 0 } -> goto rouses
	:: d_step { cpu[k].mode == IDLE -> k = 0 } -> break
	od;
	acquire();
#endif
credits:
	credit_idle();
	d_step {
#ifndef TWO_PROXIES
		lock = 0;
#endif
		opened = 0 };
rouses:
	wake_sleepers();
	goto main;

/* models _core.pyx:mm_gen_offline sha256:bf369d934fc0 */
leaves:
	hold();
	if
	:: d_step { AT_REST && online == 1 -> was_tagged = 0; age[me] = 1;
		complete = complete - OWES(me, GEN(me)); online--; counted[me] = 0;
		cpu[me].mode = OFFLINE; quiescent(me); cpu[me].snap[0] = 0; cpu[me].snap[1] = 0;
#ifdef LAST_CPU_UNLOCKED                /* BROKEN: the lock is given back before the last CPU has reset pending and moved generation */
		lock = 0;
#endif
		};
		d_step {
			k = (ahead + LAG(me) > 0 -> ahead + LAG(me) : 0);
			online = 0; complete = 0; tagged = (GEN(me) + k) & 1; held--; moving = k & 1 };
		d_step {
			assert(LAG(me) == 0); advance(k); moving = 0; k = 0; age[me] = 0;
#ifndef LAST_CPU_UNLOCKED
			lock = 0;
#endif
			} -> goto rouses
	:: d_step { AT_REST && online > 1 -> was_tagged = 0; age[me] = 1;
		complete = complete - OWES(me, GEN(me)); online--; counted[me] = 0;
		cpu[me].mode = OFFLINE; quiescent(me); cpu[me].snap[0] = 0; cpu[me].snap[1] = 0 };
		if
		:: d_step { complete != 1 -> assert(complete > 0); complete--; held--; age[me] = 0; lock = 0 } -> goto main
		:: drop_last(); open_next(1); goto credits
		fi
	fi;

/* Into a domain that has others online; the first to come is above. */
/* models _core.pyx:mm_gen_online sha256:7480cce313ae */
/* models _core.pyx:mm_gen_register sha256:be15d4eefe32 */
/* models _core.pyx:bring_up sha256:0660c671008d */
arrives:
	hold();
	d_step { AT_REST -> was_tagged = 0; age[me] = 1;
		online++; held--; counted[me] = 1;      /* the hold becomes its debt */
		cpu[me].snap[GEN(me)] = NOW - 1; cpu[me].snap[1 - GEN(me)] = NOW; cpu[me].mode = RUNNING; age[me] = 0; lock = 0 };
	goto main
}

#define W (me - NCPUS)
/* This wait's CPUs: those that run when it loads generation. The promise speaks of the call; a CPU that came back between the two is
 * in as well, and what was quiescent between them is out by itself: this asks for more, not for less. */
#define BEGIN age[me] = 1; for (i : 0 .. NCPUS - 1) { need[W] = need[W] | ((cpu[i].mode == RUNNING) << i) } i = 0

active [NWAITERS] proctype Waiter() {
	byte k;
	byte was_online;
	bit was_tagged;
	bit opened;
/* models _core.pyx:mm_gen_start_poll sha256:7db390d273cf */
/* models _core.pyx:mm_gen_begin sha256:f40e155bc6e9 */
end_main:
main:
#ifdef ONLINE_READ_EARLY                /* BROKEN: asks before it has the lock whether anyone is online, and not again */
	if
	:: FREE && online == 0 -> goto main
	:: FREE && online > 0
	fi;
	d_step { lock == 0 -> lock = 1; BEGIN };
#else
	if
	:: d_step { FREE && lock == 0 && online == 0 -> for (i : 0 .. NCPUS - 1) { assert(cpu[i].mode == OFFLINE) } i = 0 } -> goto main
	:: d_step { FREE && lock == 0 && online > 0 -> lock = 1; BEGIN }
	fi;
#endif
	d_step {
		k = (WANTED(me) -> JOINING_TAKES : ON_DEMAND_TAKES);
		cookie[W] = (k > LAG(me) -> k - LAG(me) : 0);
		ahead = (k - LAG(me) > ahead -> k - LAG(me) : ahead);
		assert(cookie[W] > 0 || need[W] == 0);
		k = 0; age[me] = 0 };
#ifndef NO_IDLE_SCAN                    /* BROKEN with it: nobody credits the CPUs that idled before */
	credit_idle();
#endif
	if
	:: d_step { opened -> opened = 0; lock = 0 } -> wake_sleepers()
	:: d_step { !opened -> lock = 0 }
	fi;

/* Polls; gives up; or counts itself and sleeps. */
/* models _core.pyx:mm_gen_poll sha256:a3addc63fe47 */
/* models _core.pyx:mm_gen_wait_for sha256:51b8373a6cc6 */
/* models _core.pyx:mm_gen_wait sha256:d9c666e5f1d9 */
again:
	if
	:: cookie[W] == 0 -> goto main
	:: d_step { FREE -> cookie[W] = 0; need[W] = 0 } -> goto main
	:: sleepers++
	fi;
	do
	:: d_step { cookie[W] == 0 -> age[me] = 0 } -> break
	:: d_step { cookie[W] > 0 -> age[me] = 1 };
		if
		:: d_step { LAG(me) > 0 -> age[me] = 0 }                                /* the futex finds another value */
		:: d_step { LAG(me) == 0 -> age[me] = 0; asleep[W] = 1 };
			if
			:: asleep[W] == 0
			:: d_step { FREE && asleep[W] -> asleep[W] = 0 } -> sleepers--; goto again      /* a timeout, a signal */
			fi
		fi
	od;
	sleepers--;
	goto main
}

/* In every state: complete is what is owed and held; and the parity in pending is generation's, but between an opener's two stores. */
#if NCPUS == 1
#define SUM(f) (f(0))
#elif NCPUS == 2
#define SUM(f) (f(0) + f(1))
#else
#define SUM(f) (f(0) + f(1) + f(2))
#endif
#define OWED(c) (counted[c] && (paying[c] || OWES(c, tagged)))
#define COMPLETE_FITS (complete == SUM(OWED) + held)
#define PARITY_FITS (tagged == (parity ^ moving))
#ifndef NO_MONITOR                      /* so that a broken variant shows what harm comes of it */
active proctype Monitor() {
end:
	atomic { !(COMPLETE_FITS && PARITY_FITS) -> assert(COMPLETE_FITS); assert(PARITY_FITS) }
}
#endif

#ifdef DRAIN
active proctype Drain() {
	draining = 1;
end:	false
}
#endif

#ifdef ENDS
never {                                 /* accepts a run that stays infinite after the drain has begun */
	do
	:: !draining
	:: draining -> break
	od;
accept:	do :: draining od
}
#endif
