package agent

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/peerhq/peer/agent/api"
	"github.com/peerhq/peer/lockclient"
)

// waitingEvery is how often one that waits is told that it does: that also finds
// out whether it is still there.
const waitingEvery = 15 * time.Second

// hold takes the lock name for an HTTP client and keeps it for as long as ctx,
// its connection, lives. It tells every change of the place in the queue, then
// that the lock is acquired, then, before half of what was told is over, until
// when it is held now; and when it is lost. tell is called from this goroutine,
// may take its time, and returns an error when the client does not listen.
//
// It returns an error only when the lock was not obtained.
func (t *leases) hold(ctx context.Context, name string, q lockQuery, tell func(api.HoldEvent) error) error {
	began := time.Now()
	say := func(e api.HoldEvent) error {
		e.ElapsedMS = time.Since(began).Milliseconds()
		return tell(e)
	}
	if err := t.enterHold(); err != nil {
		return err
	}
	l, err := t.stand(ctx, name, q, say)
	if err != nil {
		t.leaveHold()
		return err
	}
	told := l.Deadline()
	err = say(api.HoldEvent{Type: api.HoldAcquired, Fence: l.Fence(), TTLMS: q.ttl.Milliseconds(), ExpiresInMS: left(told)})
	for err == nil && ctx.Err() == nil {
		// It is renewed after a third of what is left.
		next := time.NewTimer(max(time.Until(told)*2/5, q.ttl/30))
		select {
		case <-next.C:
			until := l.Deadline()
			if err = say(api.HoldEvent{Type: api.HoldHeld, ExpiresInMS: left(until)}); err == nil {
				told = until
			}
		case <-l.Lost():
			_ = say(api.HoldEvent{Type: api.HoldLost, Reason: lostReason(l.Err())})
			t.leaveHold()
			return nil
		case <-t.stopped.Done():
			_ = say(api.HoldEvent{Type: api.HoldLost, Reason: errLeaving.Error()})
			ctx = t.stopped
		case <-ctx.Done():
		}
		next.Stop()
	}
	if ctx.Err() == nil && errors.Is(err, os.ErrDeadlineExceeded) {
		// It does not read, which is not to say that it does not work: it was
		// told that the lock is its own until then.
		go func() {
			defer t.leaveHold()
			t.outlast(l, told)
		}()
		return nil
	}
	t.giveBack(l)
	t.leaveHold()
	return nil
}

// stand waits in the queue and says so.
func (t *leases) stand(ctx context.Context, name string, q lockQuery, say func(api.HoldEvent) error) (*lockclient.Lock, error) {
	type outcome struct {
		lock *lockclient.Lock
		err  error
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	waits := make(chan lockclient.Waiting, 1) // the newest
	got := make(chan outcome, 1)
	go func() {
		l, err := t.get(ctx, name, q, func(w lockclient.Waiting) {
			select {
			case <-waits:
			default:
			}
			waits <- w
		})
		got <- outcome{l, err}
	}()
	var last lockclient.Waiting
	again := time.NewTicker(waitingEvery)
	defer again.Stop()
	for {
		select {
		case o := <-got:
			return o.lock, o.err
		case last = <-waits:
		case <-again.C:
			if last.Position == 0 {
				continue
			}
		}
		e := api.HoldEvent{Type: api.HoldWaiting, Position: last.Position, Holder: apiHolder(last.Holder)}
		if err := say(e); err != nil {
			cancel(err)
			o := <-got
			if o.lock != nil {
				t.giveBack(o.lock)
			}
			return nil, err
		}
	}
}

// outlast gives l back at the time at, or when the agent stops.
func (t *leases) outlast(l *lockclient.Lock, at time.Time) {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.Lost():
	case <-t.stopped.Done():
	}
	t.giveBack(l)
}

// left is the time until t for a field that ends in _ms.
func left(t time.Time) int64 { return max(time.Until(t), 0).Milliseconds() }
