/* DRAFT, without prose or stamps yet: the whole protocol but for close and fork, one access a step. With credit_idle's second look
 * at the goal (see RECHECK); -DNO_RECHECK is mm_gen_wait as of the first commit, and is refuted on demand with -DNCPUS=2.
 *   spin -DNCPUS=2 -DNWAITERS=1 [-DDRAIN] [-DCONTINUOUS] [-DNO_RECHECK] -a mmgen.pml
 *   gcc -O2 -DSAFETY -DCOLLAPSE -DNOFAIR -o pan pan.c && ./pan -m5000000      (-DBFS for the shortest trail)
 */
#ifndef NCPUS
#define NCPUS 1
#endif
#ifndef NWAITERS
#define NWAITERS 1
#endif
#ifdef CONTINUOUS
#define WANTED true
#else
#define WANTED false
#endif
#ifndef ON_DEMAND_TAKES
#define ON_DEMAND_TAKES 2
#endif
#ifndef JOINING_TAKES
#define JOINING_TAKES 3
#endif

#define OFFLINE 0
#define RUNNING 1
#define IDLE    2
#define PROXIED 3

#define NOW  2
#define LAG(p)  (age[p] - 1)
#define OLDEST  5

typedef mm_cpu { byte snap[2]; byte mode };
mm_cpu cpu[NCPUS];
bit parity;            /* generation & 1 */
short ahead;           /* goal - generation */
byte online; bit tagged; byte complete;   /* pending */
bit lock;
byte sleepers;

byte age[NCPUS + NWAITERS];
byte seen_ahead[NCPUS];
byte cookie[NWAITERS];
bit asleep[NWAITERS];

/* ghosts */
bit draining;
byte held;
bit moving;
bit counted[NCPUS];
bit paying[NCPUS];
byte need[NWAITERS];

byte i;

#define GEN(p)  (parity ^ (LAG(p) & 1))
#define OWES(c, par)  (cpu[c].snap[par] < cpu[c].snap[1 - (par)])

inline snapshot(c, par) {
	cpu[c].snap[par] = NOW;
	if :: cpu[c].snap[1 - (par)] < NOW -> cpu[c].snap[1 - (par)] = NOW - 1 :: else fi
}
inline count_switch(c) {
	if :: cpu[c].snap[0] == NOW || cpu[c].snap[1] == NOW -> cpu[c].snap[0]--; cpu[c].snap[1]-- :: else fi
}
inline quiescent(c) {
	for (i : 0 .. NWAITERS - 1) { need[i] = need[i] & ~(1 << c) }
	i = 0
}
inline advance(k) {
	parity = parity ^ ((k) & 1);
#ifndef CONTINUOUS
	assert(ahead - (k) >= -1);
#endif
	ahead = (ahead - (k) < -1 -> -1 : ahead - (k));
	for (i : 0 .. NCPUS + NWAITERS - 1) { age[i] = (age[i] == 0 -> 0 : (age[i] + (k) > OLDEST -> OLDEST : age[i] + (k))) }
	for (i : 0 .. NCPUS - 1) { seen_ahead[i] = (seen_ahead[i] < (k) -> 0 : seen_ahead[i] - (k)) }
	for (i : 0 .. NWAITERS - 1) {
		if
		:: cookie[i] == 0
		:: cookie[i] > (k) -> cookie[i] = cookie[i] - (k)
		:: else -> cookie[i] = 0; assert(need[i] == 0)
		fi
	}
	i = 0
}

inline acquire() { d_step { lock == 0 -> lock = 1 } }

inline open_next() {
	d_step { assert(!moving); tagged = !was_tagged; complete = was_online; online = was_online; moving = 1; was_tagged = 0; was_online = 0 };
	d_step { assert(LAG(me) == 0); advance(1); moving = 0; age[me] = 0 }
}

inline tick() {
	age[me] = 1;
	if
	:: d_step { !(ahead + LAG(me) > 0 || WANTED) -> age[me] = 0 }
	:: ahead + LAG(me) > 0 || WANTED ->
		assert(LAG(me) <= 1);
		if
		:: d_step { !OWES(me, GEN(me)) ->
				if :: cpu[me].snap[1 - GEN(me)] != NOW -> snapshot(me, GEN(me)) :: else fi;
				age[me] = 0 }
		:: d_step { OWES(me, GEN(me)) && cpu[me].snap[1 - GEN(me)] == NOW -> age[me] = 0 }
		:: d_step { OWES(me, GEN(me)) && cpu[me].snap[1 - GEN(me)] != NOW -> snapshot(me, GEN(me)); paying[me] = 1 } ->
			if
			:: d_step { complete == 0 -> assert(false) }
			:: d_step { complete > 1 -> complete--; paying[me] = 0; age[me] = 0 }
			:: d_step { complete == 1 -> complete--; paying[me] = 0; was_tagged = tagged; was_online = online } ->
				open_next();
				goto wake
			fi
		fi
	fi
}

inline hold() {
	d_step { complete > 0 -> complete++; held++; was_tagged = tagged };
	d_step { parity == was_tagged -> was_tagged = 0 }
}

inline release() {
	age[me] = 1;
	if
	:: d_step { complete == 0 -> assert(false) }
	:: d_step { complete > 1 -> complete--; held--; age[me] = 0 }
	:: d_step { complete == 1 -> complete--; held--; was_tagged = tagged; was_online = online } ->
		open_next();
		opened = 1
	fi
}

inline credit_idle() {
	do
	:: ahead <= 0 -> break
	:: ahead > 0 ->
		do
		:: d_step { k < NCPUS && cpu[k].mode != IDLE -> k++ }
		:: d_step { k < NCPUS && cpu[k].mode == IDLE -> k = 0 } -> goto found
		:: d_step { k == NCPUS -> k = 0 } -> goto credited
		od;
found:		hold();
		age[me] = 1;
#ifndef NO_RECHECK        /* RECHECK: held, look again whether anyone still waits for this generation */
		if :: ahead <= 0 -> k = NCPUS :: ahead > 0 fi;
#endif
		do
		:: d_step { k < NCPUS && cpu[k].mode != IDLE -> k++ }
		:: d_step { k < NCPUS && cpu[k].mode == IDLE -> cpu[k].mode = PROXIED };
			if
			:: d_step { OWES(k, GEN(me)) -> assert(complete > 0);
				count_switch(k); snapshot(k, GEN(me)); complete-- }
			:: !OWES(k, GEN(me))
			fi;
			d_step { cpu[k].mode = IDLE; k++ }
		:: d_step { k == NCPUS -> k = 0 } -> break
		od;
		if
		:: d_step { complete == 0 -> assert(false) }
		:: d_step { complete > 1 -> complete--; held--; age[me] = 0 } -> break
		:: d_step { complete == 1 -> complete--; held--; was_tagged = tagged; was_online = online } ->
			open_next();
			opened = 1
		fi
	od;
credited:
}

inline wake_sleepers() {
	if
	:: sleepers == 0
	:: sleepers > 0 -> d_step { for (i : 0 .. NWAITERS - 1) { asleep[i] = 0 } i = 0 }
	fi
}

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
	byte me = _pid;
	byte k;
	byte was_online;
	bit was_tagged;
	bit opened;
end_main:
main:
	if
	:: d_step { cpu[me].mode == RUNNING && SWITCH_COUNTS -> count_switch(me); quiescent(me) } -> goto main
	:: cpu[me].mode == RUNNING && TICK_COUNTS -> tick(); goto main
	:: d_step { cpu[me].mode == RUNNING && FREE -> count_switch(me); cpu[me].mode = IDLE; quiescent(me) } -> goto look
	:: d_step { cpu[me].mode == IDLE && FREE -> cpu[me].mode = RUNNING } -> goto main
	:: cpu[me].mode == RUNNING && FREE -> goto leave
	:: cpu[me].mode == OFFLINE && FREE -> goto arrive
	fi;
look:
	if
	:: ahead <= 0 -> goto main
	:: d_step { ahead > 0 -> seen_ahead[me] = ahead };
		if
		:: d_step { seen_ahead[me] > 0 -> seen_ahead[me] = 0 } -> goto wake
		:: seen_ahead[me] == 0 -> goto main
		fi
	:: age[me] = 1;
		if
		:: d_step { ahead + LAG(me) > 0 && (ahead > -1 || LAG(me) >= 2) -> age[me] = 0 } -> goto wake
		:: d_step { ahead + LAG(me) <= 0 || (ahead == -1 && LAG(me) >= 2) -> age[me] = 0 } -> goto main
		fi
	fi;
wake:
	acquire();
tail:
	credit_idle();
	opened = 0;
rouse:
	lock = 0;
	wake_sleepers();
	goto main;

leave:
	acquire();
	hold();
	age[me] = 1;
	if
	:: d_step { online == 1 -> complete = complete - OWES(me, GEN(me)); online--; counted[me] = 0 } ->
		d_step { cpu[me].mode = OFFLINE; quiescent(me); cpu[me].snap[0] = 0; cpu[me].snap[1] = 0; };
		d_step {
			opened = ahead + LAG(me) > 0 && (ahead + LAG(me)) & 1;
			k = (ahead + LAG(me) > 0 -> ahead + LAG(me) : 0);
			online = 0; complete = 0; tagged = (GEN(me) + k) & 1; held--; moving = k & 1; opened = 0;
		};
		d_step { assert(LAG(me) == 0); advance(k); moving = 0; k = 0; age[me] = 0 } -> goto rouse
	:: d_step { online > 1 -> complete = complete - OWES(me, GEN(me)); online--; counted[me] = 0 } ->
		d_step { cpu[me].mode = OFFLINE; quiescent(me); cpu[me].snap[0] = 0; cpu[me].snap[1] = 0; };
		release();
		if
		:: opened -> goto tail
		:: else -> lock = 0; goto main
		fi
	fi;

arrive:
	acquire();
	if
	:: online == 0 ->
		age[me] = 1;
		d_step { online = 1; complete = 1; tagged = GEN(me); counted[me] = 1; paying[me] = 1 }
	:: else ->
		hold();
		d_step { online++; held--; counted[me] = 1; paying[me] = 1 };
		age[me] = 1
	fi;
	d_step { cpu[me].snap[GEN(me)] = NOW - 1; cpu[me].snap[1 - GEN(me)] = NOW; paying[me] = 0; age[me] = 0 };
	cpu[me].mode = RUNNING;
	lock = 0;
	goto main
}

active [NWAITERS] proctype Waiter() {
	byte me = _pid;
	byte k;
	byte was_online;
	bit was_tagged;
	bit opened;
#define W (me - NCPUS)
end_main:
main:
	FREE;
	acquire();
	d_step { age[me] = 1; for (i : 0 .. NCPUS - 1) { need[W] = need[W] | ((cpu[i].mode == RUNNING) << i) } i = 0 };
	if
	:: d_step { online == 0 -> assert(need[W] == 0); age[me] = 0 } -> lock = 0; goto main
	:: else
	fi;
	d_step {
		k = (ahead + LAG(me) > 0 || WANTED -> JOINING_TAKES : ON_DEMAND_TAKES);
		cookie[W] = (k > LAG(me) -> k - LAG(me) : 0);
		if
		:: k - LAG(me) > ahead -> ahead = k - LAG(me)
		:: else
		fi;
		assert(cookie[W] > 0 || need[W] == 0);
		k = 0; age[me] = 0;
	};
	credit_idle();
	lock = 0;
	if
	:: d_step { opened -> opened = 0 } -> wake_sleepers()
	:: !opened
	fi;
again:
	if
	:: cookie[W] == 0 -> goto main
	:: sleepers++
	:: d_step { FREE -> cookie[W] = 0; need[W] = 0 } -> goto main
	fi;
	do
	:: cookie[W] == 0 -> break
	:: d_step { cookie[W] > 0 -> age[me] = 1 };
		if
		:: d_step { LAG(me) == 0 -> asleep[W] = 1; age[me] = 0 };
			if
			:: asleep[W] == 0
			:: d_step { FREE && asleep[W] -> asleep[W] = 0 } -> sleepers--; goto again
			fi
		:: d_step { LAG(me) > 0 -> age[me] = 0 }
		fi
	od;
	sleepers--;
	goto main
}

#if NCPUS == 1
#define SUM(f) (f(0))
#elif NCPUS == 2
#define SUM(f) (f(0) + f(1))
#else
#define SUM(f) (f(0) + f(1) + f(2))
#endif
#define OWED(c) (counted[c] && (paying[c] || OWES(c, tagged)))
#define B (complete == SUM(OWED) + held)
#define C (tagged == (parity ^ moving))
active proctype Monitor() {
end:
	atomic { !(B && C) -> assert(B); assert(C) }
}

#ifdef DRAIN
active proctype Drain() { draining = 1; end: false }
#endif
