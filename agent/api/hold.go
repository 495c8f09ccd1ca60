package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"
)

// ErrHoldEnded: the connection of a Hold is gone, and with it the lock.
var ErrHoldEnded = errors.New("the hold has ended: the connection to the agent is gone")

// Hold takes the lock name and holds it for as long as the caller ranges: the
// agent renews it while the connection lives. It yields HoldWaiting whenever the
// place in the queue changes, then HoldAcquired, then HoldHeld before half of
// the time is over that was told last; HoldLost is the last one.
//
// The caller stops its work when an event's Deadline passes without another one,
// as it does when the agent is stopped or cut off: Hold yields HoldLost then, to
// a caller that is not busy elsewhere. An error ends the sequence: a *Problem
// when the lock was not obtained, an *UnreachableError when there is no agent;
// after HoldAcquired it wraps ErrHoldEnded, and the lock is no longer held.
// Ending ctx, or the range, releases the lock or leaves the queue.
func (c *Client) Hold(ctx context.Context, name string, o LockOptions) iter.Seq2[HoldEvent, error] {
	return func(yield func(HoldEvent, error) bool) {
		body, err := json.Marshal(o.request())
		if err != nil {
			yield(HoldEvent{}, fmt.Errorf("encode request: %w", err))
			return
		}
		hctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		clock := holdClock{base: time.Now()}
		resp, err := c.send(hctx, http.MethodPost, lockPath(name)+"/hold", nil, body, "application/x-ndjson")
		if err != nil {
			yield(HoldEvent{}, c.explain(ctx, hctx, err))
			return
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxEventLine))
			yield(HoldEvent{}, c.refused(resp, raw))
			return
		}
		var end *time.Timer // at the deadline
		defer func() {
			if end != nil {
				end.Stop()
			}
		}()
		held := false
		lines := bufio.NewScanner(resp.Body)
		lines.Buffer(nil, maxEventLine)
		for lines.Scan() {
			var e HoldEvent
			if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
				yield(HoldEvent{}, c.foreign("a line that is no JSON: "+err.Error()))
				return
			}
			switch e.Type {
			case HoldFailed:
				if e.Problem == nil {
					e.Problem = NewProblem(http.StatusInternalServerError, KindInternal, "the agent does not say why", "see its log")
				}
				yield(HoldEvent{}, e.Problem)
				return
			case HoldAcquired, HoldHeld:
				held = true
				e.Deadline = clock.deadline(e)
				if end != nil {
					end.Stop()
				}
				end = time.AfterFunc(time.Until(e.Deadline), func() { cancel(errNoWord) })
			}
			if !yield(e, nil) || e.Type == HoldLost {
				return
			}
		}
		switch {
		case ctx.Err() != nil:
			yield(HoldEvent{}, context.Cause(ctx))
		case context.Cause(hctx) == errNoWord:
			yield(HoldEvent{Type: HoldLost, Reason: errNoWord.Error()}, nil)
		case held:
			yield(HoldEvent{}, fmt.Errorf("%w (%w)", ErrHoldEnded, orEOF(lines.Err())))
		default:
			yield(HoldEvent{}, c.explain(ctx, hctx, orEOF(lines.Err())))
		}
	}
}

var errNoWord = errors.New("no word from the agent until the lock's deadline")

func orEOF(err error) error {
	if err == nil {
		return io.ErrUnexpectedEOF
	}
	return err
}

// holdClock tells by this process's clock when something happened that the agent
// dates from the arrival of the request. base is never later than that arrival,
// but for a thousandth by which it is let rise: so that over days it follows a
// clock that runs at another rate, as far as the events that arrive allow.
type holdClock struct {
	base    time.Time
	elapsed time.Duration // of the last event
}

// deadline returns until when the lock is held that e, just read, tells of. It
// counts from when e was written, not from when it was read.
func (c *holdClock) deadline(e HoldEvent) time.Time {
	elapsed := time.Duration(e.ElapsedMS) * time.Millisecond
	c.base = c.base.Add(max(elapsed-c.elapsed, 0) / 1000)
	c.elapsed = elapsed
	if latest := time.Now().Add(-elapsed); latest.Before(c.base) {
		c.base = latest
	}
	return c.base.Add(elapsed + time.Duration(e.ExpiresInMS)*time.Millisecond)
}
