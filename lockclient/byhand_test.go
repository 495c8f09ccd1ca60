package lockclient_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/peerhq/peer/lockclient"
)

// A lock renewed by hand lives for as long as somebody renews it, and no longer.
func TestByHand(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		if w.net == nil {
			w.ttl, w.slack = 4*time.Second, 20*time.Second
		}
		ctx := t.Context()
		a, b := w.client("a"), w.client("b")
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo", lockclient.WithPID(4242)))
		l.ByHand()
		if h := must[lockclient.Info](t)(b.Inspect(ctx, "demo")).Holder; h == nil || h.PID != 4242 || h.Command != "test" {
			t.Errorf("it is held by %v, want process 4242", h)
		}
		for range 4 {
			time.Sleep(w.ttl / 2)
			before := time.Now()
			if err := l.Renew(ctx); err != nil {
				t.Fatal(err)
			}
			if until := l.Deadline(); until.Sub(before) < w.ttl-w.ttl/50 || time.Until(until) > w.ttl {
				t.Errorf("renewed, it has %v left of %v", time.Until(until), w.ttl)
			}
		}
		if renewed := a.Stats().Renewed; renewed != 4 {
			t.Errorf("renewed %d times, want the 4 of the caller", renewed)
		}
		until := l.Deadline()
		// Its beat would come half a minute later only.
		next := must[*lockclient.Lock](t)(b.Acquire(ctx, "demo", lockclient.WithTTL(time.Hour)))
		if early := time.Until(until); early > 0 {
			t.Errorf("the next holder came %v early", early)
		} else if early < -time.Second-w.slack {
			t.Errorf("the next holder came %v late", -early)
		}
		if err := l.Renew(ctx); !errors.Is(err, lockclient.ErrLost) || !errors.Is(err, lockclient.ErrExpired) {
			t.Errorf("renewed too late: %v, want ErrLost and ErrExpired", err)
		}
		if err := next.Release(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestByHandInTrouble(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		ctx := t.Context()
		a, b := w.client("a"), w.client("b")
		long := lockclient.WithTTL(time.Minute)
		l := must[*lockclient.Lock](t)(a.Acquire(ctx, "demo", long))
		l.ByHand()
		w.redis.Stall()
		short, cancel := context.WithTimeout(ctx, w.ttl/5)
		defer cancel()
		if err := l.Renew(short); !errors.Is(err, context.DeadlineExceeded) || !l.Valid() {
			t.Errorf("renewed while Redis is stalled: %v, valid %v", err, l.Valid())
		}
		w.redis.Heal()
		if err := l.Renew(ctx); err != nil {
			t.Errorf("renewed when Redis is back: %v", err)
		}
		if err := l.Release(ctx); err != nil {
			t.Error(err)
		}
		if err := l.Renew(ctx); !errors.Is(err, lockclient.ErrReleased) {
			t.Errorf("renewed after its release: %v", err)
		}

		l = must[*lockclient.Lock](t)(a.Acquire(ctx, "demo", long))
		l.ByHand()
		listening(t, w.admin(), 1)
		must[lockclient.Info](t)(b.ForceRelease(ctx, "demo"))
		select {
		case <-l.Lost():
		case <-time.After(w.ttl/4 + 100*w.slack):
			t.Error("not told that it was taken by force")
		}
		if err := l.Renew(ctx); !errors.Is(err, lockclient.ErrForced) {
			t.Errorf("renewed after that: %v, want ErrForced", err)
		}
	})
}
