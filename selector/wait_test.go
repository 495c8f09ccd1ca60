package selector_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/peerhq/peer/selector"
)

func TestNextWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := ofStrings("me")
		w := s.Where("even", even)
		type answer struct {
			peer string
			err  error
			at   time.Duration
		}
		answers := make(chan answer, 3)
		start := time.Now()
		ask := func(s *selector.Selector[string], ctx context.Context) {
			p, err := s.NextWait(ctx)
			answers <- answer{p, err, time.Since(start)}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		go ask(s, ctx)
		go ask(w, ctx)
		time.Sleep(10 * time.Second)
		s.Set([]string{"p1"})
		if a := <-answers; a != (answer{"p1", nil, 10 * time.Second}) {
			t.Errorf("got %+v, want p1 when it came", a)
		}
		time.Sleep(10 * time.Second)
		s.Set([]string{"p1", "p2"})
		if a := <-answers; a != (answer{"p2", nil, 20 * time.Second}) {
			t.Errorf("got %+v, want p2 when it came", a)
		}

		s.Set([]string{"p1"})
		go ask(w, ctx)
		a := <-answers
		if a.at != time.Minute || !errors.Is(a.err, selector.ErrNoMatch) || !errors.Is(a.err, context.DeadlineExceeded) {
			t.Errorf("got %+v, want both reasons when ctx ends", a)
		}
		if p, err := s.NextWait(ctx); p != "p1" || err != nil {
			t.Errorf("got %q, %v with somebody there, want no wait even with ctx ended", p, err)
		}
	})
}
