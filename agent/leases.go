package agent

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

const (
	// maxLeases bounds the leases, holds and waits of HTTP clients together.
	maxLeases = 1024
	// maxEnded is of how many leases that have ended the end is remembered.
	maxEnded = 1024
	// leaseBytes is the length of a lease's id, which nobody shall guess.
	leaseBytes = 16
	// redisTimeout bounds one question to Redis for an HTTP client.
	redisTimeout = 5 * time.Second
	// tryTimeout bounds a try, whose client wants to know at once.
	tryTimeout = redisTimeout / 2
)

// leases are the locks that HTTP clients hold through this agent. A lease has no
// clock of its own: its lock is renewed by nobody but its client, so that what
// Redis and the lock client know of its end is all there is to know. What is here
// tells clients apart, bounds them, and remembers how leases have ended.
//
// Goroutines: those that serve its clients, and of holds one that waits and one
// that outlasts a client that does not listen.
type leases struct {
	locks   *lockclient.Client
	rand    io.Reader
	observe func(result string, took time.Duration) // of each try to get a lock

	stopped context.Context // done when close begins
	stop    context.CancelFunc
	holds   sync.WaitGroup // added to with mu held

	mu     sync.Mutex
	taken  int               // of maxLeases
	live   map[string]*held  // by id
	ended  map[string]ending // by id
	oldest []string          // of ended, in the order of their ends
	closed bool
}

// held is the lock of a live lease.
type held struct {
	*lockclient.Lock
	ttl time.Duration
}

// ending is how a lease ended. A nil err means that its client released it.
type ending struct {
	name  string
	fence uint64
	err   error
}

func newLeases(locks *lockclient.Client, random io.Reader, observe func(string, time.Duration)) *leases {
	if random == nil {
		random = rand.Reader
	}
	t := &leases{locks: locks, rand: random, observe: observe, live: map[string]*held{}, ended: map[string]ending{}}
	t.stopped, t.stop = context.WithCancel(context.Background())
	return t
}

// errLeaving ends the holds and waits when the agent stops.
var errLeaving = errors.New("the agent is stopping")

// holdGoodbye is how long close waits for clients to be told.
const holdGoodbye = time.Second

// close ends the holds, which tells their clients, and lets nobody in any more.
// It waits for a client that does not listen no longer than a second; its hold
// ends with its connection. The leases are given back when the lock client
// closes.
func (t *leases) close() {
	t.mu.Lock()
	t.closed = true
	t.mu.Unlock()
	t.stop()
	told := make(chan struct{})
	go func() {
		t.holds.Wait()
		close(told)
	}()
	timer := time.NewTimer(holdGoodbye)
	defer timer.Stop()
	select {
	case <-told:
	case <-timer.C:
	}
}

// enter takes one of the places, which leave gives back.
func (t *leases) enter() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.take()
}

// enterHold is enter for one that close waits for; leaveHold undoes it.
func (t *leases) enterHold() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.take()
	if err == nil {
		t.holds.Add(1)
	}
	return err
}

func (t *leases) leaveHold() {
	t.leave()
	t.holds.Done()
}

// take: the caller holds t.mu.
func (t *leases) take() error {
	switch {
	case t.closed:
		return stoppingProblem()
	case t.taken >= maxLeases:
		return api.NewProblem(http.StatusServiceUnavailable, api.KindTooManyLeases,
			fmt.Sprintf("%d locks are held or waited for through this agent already", t.taken),
			"release some, or use `peer lock` or the lockclient package, which need no agent")
	}
	t.taken++
	return nil
}

func (t *leases) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
}

// acquire takes the lock name for an HTTP client that renews it by itself. Its
// connection is gone when ctx is done.
func (t *leases) acquire(ctx context.Context, name string, q lockQuery) (api.Lease, error) {
	began := time.Now()
	if err := t.enter(); err != nil {
		return api.Lease{}, err
	}
	l, err := t.get(ctx, name, q, nil)
	if err != nil {
		t.leave()
		return api.Lease{}, err
	}
	l.ByHand()
	if time.Until(l.Deadline()) < q.ttl/4*3 {
		// It was handed over, for as long as a waiter may take to be heard of.
		rctx, cancel := context.WithTimeout(ctx, redisTimeout)
		_ = l.Renew(rctx) // else it is good for what is left
		cancel()
	}
	id, err := t.admit(l, q.ttl)
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx) // nobody is there any more to hear of it
	}
	if err != nil {
		t.giveBack(l)
		if id == "" {
			t.leave()
		}
		return api.Lease{}, err
	}
	return lease(id, l, q.ttl, began), nil
}

// admit gives l an id, and follows it to its end.
func (t *leases) admit(l *lockclient.Lock, ttl time.Duration) (string, error) {
	b := make([]byte, leaseBytes)
	if _, err := io.ReadFull(t.rand, b); err != nil {
		return "", fmt.Errorf("draw a lease: %w", err)
	}
	id := hex.EncodeToString(b)
	t.mu.Lock()
	t.live[id] = &held{l, ttl}
	t.mu.Unlock()
	context.AfterFunc(l.Context(), func() { t.end(id, context.Cause(l.Context())) })
	return id, nil
}

// end moves a lease from the live ones to those that have ended. The cause is
// that of its lock's context, or what its release met with.
func (t *leases) end(id string, cause error) {
	if errors.Is(cause, lockclient.ErrReleased) {
		cause = nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if e, ok := t.ended[id]; ok && cause != nil {
		e.err = cause // its release found that it had been lost before
		t.ended[id] = e
	}
	l := t.live[id]
	if l == nil {
		return
	}
	delete(t.live, id)
	t.taken--
	if len(t.oldest) == maxEnded {
		delete(t.ended, t.oldest[0])
		t.oldest = slices.Delete(t.oldest, 0, 1)
	}
	t.oldest = append(t.oldest, id)
	t.ended[id] = ending{name: l.Name(), fence: l.Fence(), err: cause}
}

// find returns a live lease, or nil and how it has ended, or the problem of one
// that there never was.
func (t *leases) find(name, id string) (*held, ending, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l := t.live[id]; l != nil && l.Name() == name {
		return l, ending{}, nil
	}
	if e, ok := t.ended[id]; ok && e.name == name {
		return nil, e, nil
	}
	return nil, ending{}, api.NewProblem(http.StatusNotFound, api.KindNoLease,
		fmt.Sprintf("this agent knows of no such lease of lock %q", name),
		"send the lease as it was given out, to the agent that gave it out and under the same name; an agent forgets its leases, and releases them, when it stops")
}

// renew puts the end of a lease off by its whole time to live.
func (t *leases) renew(ctx context.Context, name, id string) (api.Lease, error) {
	began := time.Now()
	l, e, err := t.find(name, id)
	switch {
	case err != nil:
		return api.Lease{}, err
	case l == nil && e.err == nil:
		return api.Lease{}, lostProblem(name, lockclient.ErrReleased)
	case l == nil:
		return api.Lease{}, lostProblem(name, e.err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, redisTimeout, errSlowRedis)
	defer cancel()
	if err := l.Renew(ctx); err != nil {
		return api.Lease{}, lockError(name, err)
	}
	return lease(id, l.Lock, l.ttl, began), nil
}

// errSlowRedis is the cause of a question that was given up.
var errSlowRedis = fmt.Errorf("no answer within %v: %w", redisTimeout, context.DeadlineExceeded)

// release gives a lease back. Twice is no error.
func (t *leases) release(ctx context.Context, name, id string) (api.Released, error) {
	l, e, err := t.find(name, id)
	switch {
	case err != nil:
		return api.Released{}, err
	case l == nil && e.err != nil:
		return api.Released{}, lostProblem(name, e.err)
	case l == nil:
		return api.Released{Name: name, Fence: e.fence}, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, redisTimeout, errSlowRedis)
	defer cancel()
	err = l.Release(ctx)
	var lost *lockclient.LostError
	if errors.As(err, &lost) {
		t.end(id, err)
		return api.Released{}, lostProblem(name, err)
	}
	t.end(id, nil)
	if err != nil {
		return api.Released{}, lockError(name, err)
	}
	return api.Released{Name: name, Fence: l.Fence()}, nil
}

// giveBack releases l for a client that is gone. It does not wait for Redis
// longer than a moment: a lock that is not given back ends by itself.
func (t *leases) giveBack(l *lockclient.Lock) {
	ctx, cancel := context.WithTimeout(context.Background(), redisTimeout)
	defer cancel()
	_ = l.Release(ctx)
}

// get waits for a lock, and measures the wait. onWait is told of the queue.
func (t *leases) get(ctx context.Context, name string, q lockQuery, onWait func(lockclient.Waiting)) (*lockclient.Lock, error) {
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.stopped, func() { cancel(errLeaving) })()
	opts := []lockclient.Option{lockclient.WithTTL(q.ttl), lockclient.WithCommand(q.command), lockclient.WithPID(q.pid)}
	if onWait != nil {
		opts = append(opts, lockclient.OnWait(onWait))
	}
	var l *lockclient.Lock
	var err error
	if q.wait == 0 {
		tctx, cancel := context.WithTimeoutCause(ctx, tryTimeout, errTimeUp)
		l, err = t.locks.TryAcquire(tctx, name, opts...)
		cancel()
	} else {
		wctx := ctx
		if q.wait > 0 {
			var cancel context.CancelFunc
			wctx, cancel = context.WithTimeoutCause(ctx, q.wait, errTimeUp)
			defer cancel()
		}
		l, err = t.locks.Acquire(wctx, name, opts...)
	}
	if result := resultOf(err); result != "" {
		t.observe(result, time.Since(began))
	}
	var held *lockclient.HeldError
	if errors.Is(err, errTimeUp) && errors.As(err, &held) {
		return nil, timeUpProblem(name, q.wait, held)
	}
	if err != nil {
		return nil, lockError(name, err)
	}
	return l, nil
}

// errTimeUp is the cause of a wait that took too long.
var errTimeUp = errors.New("the wait is over")

func lease(id string, l *lockclient.Lock, ttl time.Duration, began time.Time) api.Lease {
	now := time.Now()
	return api.Lease{
		Schema: api.SchemaLease, Name: l.Name(), Lease: id, Fence: l.Fence(), TTLMS: ttl.Milliseconds(),
		ExpiresInMS: max(l.Deadline().Sub(now), 0).Milliseconds(), ElapsedMS: now.Sub(began).Milliseconds(),
	}
}
