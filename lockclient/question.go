package lockclient

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A question is a call whose caller may leave it before there is an answer. The
// caller makes it itself, for a goroutine beside it would cost as much again as
// the way to Redis; when its context is done somebody else ends what it is
// blocked in, on whatever connection that is. That connection is lost, so this is
// for calls that find one ready, while few have been lost of late.
//
// It is the context of the call. go-redis tells a connection nothing of a call
// but its deadline: by that, which no other question has, a line knows whose it
// is.
type question struct {
	context.Context           // of the caller, for its values
	deadline        time.Time // its name
	done            chan struct{}
	left            atomic.Bool
	line            atomic.Pointer[line]
	ended           <-chan struct{} // when left: closed when the question can do no more harm; nil when it cannot
}

// errLeft is what is left of a question that its caller has left.
var errLeft = errors.New("left without an answer")

// Deadline names the question. As a limit it is about the client's own.
func (q *question) Deadline() (time.Time, bool) { return q.deadline, true }

// Done is closed when the caller has left, which may be later than its context.
func (q *question) Done() <-chan struct{} { return q.done }

// Err is that of a context.
func (q *question) Err() error {
	if q.left.Load() {
		return context.Canceled
	}
	return nil
}

// leave ends whatever the caller is blocked in.
func (q *question) leave() {
	if !q.left.CompareAndSwap(false, true) {
		return
	}
	close(q.done)
	if l := q.line.Load(); l != nil {
		l.leave(q)
	}
}

// leaveAfter has q left when grace has passed since ctx was done. The function
// that it returns ends that.
func (q *question) leaveAfter(ctx context.Context, grace time.Duration) (stop func() bool) {
	if grace == 0 {
		return context.AfterFunc(ctx, q.leave)
	}
	return context.AfterFunc(ctx, func() { time.AfterFunc(grace, q.leave) })
}

// questions are those under way, by name.
type questions struct {
	timeout    time.Duration       // of a call
	floor      atomic.Int64        // the shortest round trip of late, in ns; 0 when none is known
	staying    atomic.Int32        // lines that were left and wait for an answer
	background func(f func()) bool // the client's

	mu   sync.Mutex
	last int64
	open map[int64]*question
}

// maxStaying bounds the connections that were left and are not yet closed.
const maxStaying = 4

// direct reports whether a call may be made by its caller, as a question.
func (c *Client) direct() bool {
	single, ok := c.calls.(*redis.Client)
	return ok && c.questions.staying.Load() < maxStaying &&
		(c.batches() && c.batcher.full() || single.PoolStats().IdleConns > 0)
}

// took takes note of a round trip.
func (o *questions) took(d time.Duration) {
	for {
		floor := o.floor.Load()
		if floor != 0 && int64(d) >= floor || o.floor.CompareAndSwap(floor, max(int64(d), 1)) {
			return
		}
	}
}

// age lets the shortest round trip count less, for the way may become longer. It
// is called about once a second.
func (o *questions) age() {
	if floor := o.floor.Load(); floor != 0 {
		o.floor.CompareAndSwap(floor, floor+floor/10+1)
	}
}

// ask begins a question.
func (o *questions) ask(ctx context.Context) *question {
	q := &question{Context: ctx, done: make(chan struct{})}
	// go-redis takes the earlier one of this and its own, which it counts from a
	// clock that may be late.
	at := time.Now().Add(o.timeout * 9 / 10).UnixNano()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = max(o.last+1, at)
	q.deadline = time.Unix(0, o.last)
	o.open[o.last] = q
	return q
}

// end ends q, whose call has ended with err. It says whether its caller has left
// without an answer.
func (o *questions) end(q *question, err error) (left bool) {
	o.forget(q)
	if err == nil || !q.left.Load() {
		return false
	}
	if l := q.line.Load(); l != nil && errors.Is(err, errLeft) && q.ended == nil {
		q.ended = l.outstayed()
	}
	return true
}

func (o *questions) forget(q *question) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, q.deadline.UnixNano())
}

// named returns the question whose deadline t is, or nil.
func (o *questions) named(t time.Time) *question {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.open) == 0 {
		return nil
	}
	return o.open[t.UnixNano()]
}
