//go:build unix

package guard

import "time"

// killAhead is how long before its deadline a command gets KILL, unless its grace
// is short: on a busy host it takes a while to die.
const killAhead = 50 * time.Millisecond

// afterLoss bounds the grace of a command whose lease is known to be lost: it may
// run beside the next one. With the time it takes to die that is half a second.
const afterLoss = 450 * time.Millisecond

// Deadlines says what happens to a command, and when, counted from one moment.
type Deadlines struct {
	Term time.Duration // it gets TERM
	Kill time.Duration // it gets KILL
	Next time.Duration // the next holder may begin
}

// DeadlinesOf returns the deadlines of a command whose lease ends in left, unless
// it is renewed, and that is given grace from TERM to KILL.
//
// As long as the lease is only feared to be lost, because nobody answers, KILL comes
// before its end and TERM a grace before that, but not before half of what is left
// is over: a lease that begins short, as one that was handed over does, is in danger
// only then. Once the lease is known to be lost the next holder may begin at any
// moment, so TERM comes at once and KILL soon.
func DeadlinesOf(left, grace time.Duration, lost bool) Deadlines {
	kill := left - min(killAhead, grace/10)
	if lost {
		return Deadlines{Kill: max(0, min(kill, grace, afterLoss))}
	}
	return Deadlines{Term: kill - min(grace, left/2), Kill: kill, Next: left}
}
