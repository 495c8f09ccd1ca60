package lockclient

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxFlights bounds the pipelines of renewals without an answer. A new one
	// waits for a sixth of a time to live for the one before, and each ends with
	// the time to live: so many are enough.
	maxFlights = 6
	// soonPart is which part of its time to live a renewal may come early, to go
	// with others: a process with any number of holds of one time to live sends
	// at most so many pipelines in it.
	soonPart = 12
)

// A renewer sends the renewals that are due as one pipeline, for one round trip
// each would keep a connection busy for as long as all of them together.
//
// Goroutines: one for each pipeline under way, maxFlights at most, and on a
// Cluster one for each node that it goes to.
type renewer struct {
	c *Client

	mu      sync.Mutex
	due     []*Lock
	flights int
	sent    time.Time   // the newest flight; zero when its answer is there
	timer   *time.Timer // for when that answer has been waited for long enough
}

// wake runs when alarms ring. The locks are out of the heap: each comes back with
// its next alarm, or has ended.
func (c *Client) wake(rung []*Lock) {
	if !c.begin() {
		return
	}
	defer c.done()
	var due []*Lock
	for _, l := range rung {
		if l.tick(0) {
			due = append(due, l)
		}
	}
	if len(due) == 0 {
		return
	}
	for _, l := range c.alarms.until(time.Now().Add(due[0].r.ttl / soonPart)) {
		if l.tick(l.r.ttl / soonPart) {
			due = append(due, l)
		}
	}
	c.renewer.add(due)
}

// add has the renewals of due sent.
func (r *renewer) add(due []*Lock) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.due = append(r.due, due...)
	r.send()
}

// send starts a pipeline with what is due, unless the answer to the one before
// may still come first. The caller holds r.mu.
//
// The shortest time to live decides how long the answer is waited for; those with
// a far longer one go with the next.
func (r *renewer) send() {
	if len(r.due) == 0 || r.flights >= maxFlights {
		return
	}
	slices.SortStableFunc(r.due, func(a, b *Lock) int { return cmp.Compare(a.r.ttl, b.r.ttl) })
	shortest := r.due[0].r.ttl
	if wait := shortest/6 - time.Since(r.sent); !r.sent.IsZero() && wait > 0 {
		if r.timer != nil {
			r.timer.Stop()
		}
		r.timer = time.AfterFunc(wait, func() { r.add(nil) })
		return
	}
	n := len(r.due)
	for r.due[n-1].r.ttl > 4*shortest {
		n--
	}
	batch := r.due[:n:n]
	r.due = r.due[n:]
	sent := time.Now()
	r.flights++
	r.sent = sent
	if !r.c.background(func() { r.fly(batch, shortest, sent) }) {
		r.flights--
	}
}

// fly sends one pipeline, and the next when its answer is there.
func (r *renewer) fly(batch []*Lock, patience time.Duration, began time.Time) {
	ctx, cancel := context.WithTimeout(r.c.life, patience)
	defer cancel()
	r.c.renewAll(ctx, batch)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flights--
	if r.sent.Equal(began) {
		r.sent = time.Time{}
	}
	r.send()
}

// renewAll renews locks with one pipeline for each node: a node of a Cluster that
// does not answer keeps no answer of another back.
func (c *Client) renewAll(ctx context.Context, locks []*Lock) {
	cluster, ok := c.renewals.(*redis.ClusterClient)
	if !ok {
		c.renewOn(ctx, c.renewals, locks)
		return
	}
	byNode := map[redis.UniversalClient][]*Lock{}
	for _, l := range locks {
		var node redis.UniversalClient = cluster
		if n, err := cluster.MasterForKey(ctx, l.r.keys[0]); err == nil {
			node = n
		}
		byNode[node] = append(byNode[node], l)
	}
	var wg sync.WaitGroup
	for node, part := range byNode {
		wg.Go(func() { c.renewOn(ctx, node, part) })
	}
	wg.Wait()
}

// A renewal is one command of a pipeline.
type renewal struct {
	lock   *Lock
	script *script
	sent   moment
	cmd    *redis.StringCmd
}

// renewOn renews locks by way of rdb. What could not be done because of a broken
// connection, a script that is not known or a slot that has moved is sent again:
// renewals are idempotent.
func (c *Client) renewOn(ctx context.Context, rdb redis.UniversalClient, locks []*Lock) {
	batch := make([]*renewal, len(locks))
	sent := now()
	for i, l := range locks {
		s, args := l.renewal()
		args[1] = &s.hash
		batch[i] = &renewal{l, s, sent, redis.NewStringCmd(ctx, args...)}
		l.mu.Lock()
		l.queued = false
		l.mu.Unlock()
	}
	for attempt := 0; ; attempt++ {
		pipe := rdb.Pipeline()
		for _, r := range batch {
			pipe.Process(ctx, r.cmd)
		}
		pipe.Exec(ctx) // each command has its own error
		last := attempt == resend || ctx.Err() != nil
		var again []*renewal
		var taught []*script
		told := false
		for _, r := range batch {
			err := r.cmd.Err()
			unknown, moved := redis.HasErrorPrefix(err, "NOSCRIPT"), redis.HasErrorPrefix(err, "MOVED") || redis.HasErrorPrefix(err, "ASK")
			if !last && err != nil && (unknown || moved || broken(err)) {
				args := r.cmd.Args()
				if unknown && !slices.Contains(taught, r.script) {
					// The server knows it for those that follow.
					taught = append(taught, r.script)
					args = r.script.withSource(args)
				}
				r.cmd = redis.NewStringCmd(ctx, args...)
				again = append(again, r)
				if moved {
					rdb = c.renewals // which finds it
				}
				continue
			}
			err = explain(c.addr, err)
			if !told || err != nil {
				c.heard(ctx, err)
				told = true
			}
			r.lock.answered(r.sent, r.script, r.cmd.Val(), err)
		}
		if len(taught) > 0 {
			c.teach()
		}
		if len(again) == 0 {
			return
		}
		batch, sent = again, now()
		for _, r := range batch {
			r.sent = sent
		}
	}
}

// answered acts on the answer to a renewal that was sent at sent, or on err, which
// is why there is none. It returns nil, a *LostError or err.
func (l *Lock) answered(sent moment, s *script, reply string, err error) error {
	c := l.c
	if err == nil {
		err = decodeOutcome(s, reply)
	}
	l.mu.Lock()
	l.tries--
	if l.state != stateHeld {
		defer l.mu.Unlock()
		return l.err // too late: it revives nothing
	}
	var u *UnavailableError
	switch {
	case !l.until.after(now()):
		l.lose(ErrExpired, true)
	case err == nil:
		l.extend(sent)
		l.mu.Unlock()
		c.health.renewed.Add(1)
		return nil
	case errors.Is(err, ErrExpired), errors.Is(err, ErrStolen):
		l.lose(err, false)
	case errors.As(err, &u) && u.Cause == CauseWrongType:
		l.lose(err, false)
	default:
		// The deadline decides. Until then try again, not all at one time.
		if t := now(); !l.byHand {
			l.due = t.add(min(c.backoff(l.attempt), l.r.ttl/6))
			l.attempt++
			l.arm()
		}
		l.mu.Unlock()
		c.health.renewFailed.Add(1)
		return err
	}
	return l.Err()
}
