package lockclient

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// enlist makes r known before its first question is asked: a grant may be pushed
// before the answer is read.
func (c *Client) enlist(r *request) {
	c.mu.Lock()
	c.waiters[r.id] = r
	r.ear = c.lend(r)
	c.mu.Unlock()
}

// dismiss undoes enlist and join.
func (c *Client) dismiss(r *request) {
	if r.wake == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiters, r.id)
	c.giveBack(r)
	if q := c.queues[r.name]; q != nil {
		if i := slices.Index(q.waiters, r); i >= 0 {
			q.waiters = slices.Delete(q.waiters, i, i+1)
		}
		if len(q.waiters) == 0 {
			q.timer.Stop()
			delete(c.queues, r.name)
		}
	}
}

// firstRenewal is how long a hold needs at its beginning to be renewed for sure: a
// new connection and the answer are three round trips.
func (c *Client) firstRenewal() time.Duration {
	return settleAfter + 4*time.Duration(c.questions.floor.Load())
}

// wait waits for r's turn after the answer a, to a question sent at sent, has
// put it into the queue.
func (c *Client) wait(ctx context.Context, r *request, sent moment, a answer) (*Lock, error) {
	c.join(r, sent, a)
	r.ear.open()
	var told Waiting
	for attempt := 0; ; {
		c.mu.Lock()
		grant, again, err := r.grant, r.again, r.err
		r.grant, r.again = nil, false
		asked := r.asked
		waiting := Waiting{Position: r.position, c: c, r: r}
		holder := r.holder
		c.mu.Unlock()

		switch {
		case c.closing.Load():
			err = ErrClosed
		case ctx.Err() != nil:
			err = fmt.Errorf("wait for %q: %w", r.name, context.Cause(ctx))
		}
		if err != nil {
			c.dismiss(r)
			c.forget(r, nil)
			return nil, err
		}
		if grant != nil {
			if left := r.claim - now().sub(asked); left > max(r.claim/4, c.firstRenewal()) {
				l, err := c.granted(ctx, r, grant.fence, grant.since, asked, r.claim)
				if !errors.Is(err, errLate) {
					return l, err
				}
			}
			again = true // little of the claim is left: make it a whole time to live
		}
		if again {
			a, sent, ended, err := c.ask(ctx, r)
			if err == nil && a.held {
				var l *Lock
				if l, err = c.granted(ctx, r, a.fence, a.since, sent, r.ttl); !errors.Is(err, errLate) {
					return l, err
				}
			}
			var u *UnavailableError
			switch {
			case err == nil:
				attempt = 0
				c.note(r, sent, a)
			case errors.Is(err, errLate), errors.As(err, &u) && !u.lasting():
				c.retry(r, attempt)
				attempt++
			default:
				c.dismiss(r)
				c.forget(r, ended)
				return nil, err
			}
			continue
		}
		if r.onWait != nil {
			v, _ := decodeValue(holder)
			waiting.Holder = v.holder
			if waiting != told {
				told = waiting
				r.onWait(waiting)
				continue
			}
		}
		select {
		case <-r.wake:
		case <-ctx.Done():
		}
	}
}

// retry has r ask again after a pause.
func (c *Client) retry(r *request, attempt int) {
	time.AfterFunc(c.backoff(attempt), func() {
		c.mu.Lock()
		r.askAgain()
		c.mu.Unlock()
	})
}

// askAgain: the caller holds Client.mu.
func (r *request) askAgain() {
	r.again, r.asking = true, true
	r.signal()
}

// A queue is this process's part of the queue for one lock. Its timer beats for
// all its waiters together, in one call. Its fields are guarded by Client.mu.
type queue struct {
	name    string
	keys    keys
	waiters []*request
	timer   *time.Timer
	attempt int // failed beats in a row
}

// maxBeat bounds the waiters of one call: a script's arguments are unpacked on
// Lua's stack.
const maxBeat = 500

func (c *Client) join(r *request, sent moment, a answer) {
	c.mu.Lock()
	q := c.queues[r.name]
	if q == nil {
		q = &queue{name: r.name, keys: r.keys}
		q.timer = time.AfterFunc(time.Hour, func() { c.beat(q) })
		c.queues[r.name] = q
	}
	q.waiters = append(q.waiters, r)
	r.err = r.ear.err
	c.mu.Unlock()
	c.note(r, sent, a)
}

// note keeps an answer that found r in the queue, and sets the timer.
func (c *Client) note(r *request, sent moment, a answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.note(sent, a)
	if q := c.queues[r.name]; q != nil && !c.closing.Load() {
		q.arm()
	}
}

// note: the caller holds Client.mu.
func (r *request) note(sent moment, a answer) {
	r.asking = false
	if r.asked.t.IsZero() || sent.after(r.asked) {
		r.asked, r.fence, r.position, r.holder = sent, a.fence, a.position, a.holder
		r.expires = moment{}
		if a.pttl >= 0 {
			r.expires = now().add(a.pttl)
		}
	}
	if a.place != "" {
		r.place = a.place
	}
	// A grant from before that answer is void.
	if r.grant != nil && r.grant.fence <= r.fence {
		r.grant = nil
	}
}

// arm sets the timer: a beat every half claim, and for the two that are first in
// line one when the holder's time is over, for a holder that is gone calls
// nobody. The caller holds Client.mu.
func (q *queue) arm() {
	if len(q.waiters) == 0 {
		return
	}
	t := now()
	next := time.Hour
	for _, r := range q.waiters {
		if r.asking {
			continue
		}
		next = min(next, r.asked.add(r.claim/2).sub(t))
		if (r.position == 1 || r.position == 2) && !r.expires.t.IsZero() {
			next = min(next, r.expires.sub(t)+time.Duration(r.position)*2*time.Millisecond)
		}
	}
	q.timer.Reset(max(next, time.Millisecond))
}

// beat runs when q's timer fires.
func (c *Client) beat(q *queue) {
	if !c.begin() {
		return
	}
	defer c.done()
	c.mu.Lock()
	if c.closing.Load() {
		c.mu.Unlock()
		return
	}
	waiters := slices.DeleteFunc(slices.Clone(q.waiters), func(r *request) bool { return r.asking })
	var ear *ear
	if len(waiters) > 0 {
		ear = waiters[0].ear
	}
	c.mu.Unlock()
	if ear == nil {
		return
	}
	var failed error
	for part := range slices.Chunk(waiters, maxBeat) {
		args := arguments(&q.keys, 2+len(part))
		exact := make([]byte, len(part))
		for i, r := range part {
			exact[i] = '0'
			if i < 2 || r.onWait != nil { // or one of the first two in line
				exact[i] = '1'
			}
			args[argOwn+2+i] = &r.id
		}
		args[argOwn], args[argOwn+1] = ear.letter(), exact
		sent := now()
		ctx, cancel := context.WithTimeout(c.life, max(part[0].claim/2, minCallTimeout))
		reply, err := c.run(ctx, c.calls, beatScript, args)
		cancel()
		answers, ok := decodeBeat(reply, len(part))
		if err == nil && !ok {
			err = errReply(beatScript, reply)
		}
		if err != nil {
			failed = err
			break
		}
		c.beaten(part, sent, answers)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case failed == nil:
		q.attempt = 0
		if !c.closing.Load() {
			q.arm()
		}
	case lasting(failed):
		for _, r := range waiters {
			r.err = failed
			r.signal()
		}
	default:
		if !c.closing.Load() && len(q.waiters) > 0 {
			q.timer.Reset(c.backoff(q.attempt))
			q.attempt++
		}
	}
}

// beaten hands the answers of beat.lua to its waiters.
func (c *Client) beaten(waiters []*request, sent moment, answers []answer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, r := range waiters {
		a := answers[i]
		if a.position == 0 {
			r.askAgain()
			continue
		}
		if a.position < 0 {
			a.position = r.position
		}
		if isForeign(a.holder) {
			r.err = c.foreign(r.keys[0])
			r.signal()
			continue
		}
		changed := r.position != a.position || r.holder != a.holder
		r.note(sent, a)
		if changed && r.onWait != nil {
			r.signal()
		}
	}
}
