//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

// lab is where a scenario runs, and what it reports to.
type lab struct {
	settings
	srv   *server
	round int
	table *table

	mu       sync.Mutex
	reported []string
}

// report takes one figure of one row.
func (l *lab) report(row string, p product, v float64) { l.note(row, p, figure{value: v}) }

// never says that something did not happen.
func (l *lab) never(row string, p product, what string) { l.note(row, p, figure{never: what}) }

func (l *lab) note(id string, p product, f figure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.table.add(id, p.name, f)
	r, _ := rowOf(id)
	l.reported = append(l.reported, fmt.Sprintf("%s %s %s", id, p.name, figures{f}.cell(r.unit)))
}

// brief is what was reported, in one text.
func (l *lab) brief() string {
	slices.Sort(l.reported)
	if len(l.reported) == 0 {
		return ""
	}
	return ": " + strings.Join(l.reported, " · ")
}

// stuckAfter is when a product is given up: one that waits for ever, whatever
// ends around it, must not take the others with it.
const stuckAfter = 45 * time.Second

// inTurn runs f for each product, beginning with another one each round.
func (l *lab) inTurn(f func(product) error) error {
	var errs []error
	for i := range l.products {
		p := l.products[(i+l.round)%len(l.products)]
		if err := bounded(stuckAfter, func() error { return f(p) }); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.name, err))
		}
	}
	return errors.Join(errs...)
}

// bounded runs f, and goes on without it when that takes too long.
func bounded(d time.Duration, f func() error) error {
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		return fmt.Errorf("%w for %v, given up", errStuck, d)
	}
}

var errStuck = errors.New("stuck")

// ping returns the p50 of a round trip, in µs.
func (l *lab) ping(ctx context.Context) float64 {
	var took []time.Duration
	for range 500 {
		t := time.Now()
		if l.srv.admin.Ping(ctx).Err() != nil {
			break
		}
		took = append(took, time.Since(t))
	}
	return inMicros(percentile(took, 50))
}

// percentile p of d, which it sorts.
func percentile(d []time.Duration, p int) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(len(d)-1, len(d)*p/100)]
}

func inMicros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
func inMillis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// wait passes d, or ends early with ctx.
func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// team opens n clients of p, each with a connection already. They are closed by
// close, or when ctx ends: who waits for ever hears of that, too.
func (l *lab) team(ctx context.Context, p product, n int) (clients []client, close func(), err error) {
	close = sync.OnceFunc(func() {
		var wg sync.WaitGroup
		for _, c := range clients {
			wg.Go(c.close)
		}
		wg.Wait()
	})
	defer func() {
		if err == nil {
			context.AfterFunc(ctx, close)
		}
	}()
	for i := range n {
		c, err := p.open(l.srv.addr, 0)
		if err != nil {
			close()
			return nil, nil, err
		}
		clients = append(clients, c)
		if err := c.pair(ctx, fmt.Sprint("warm", i)); err != nil {
			close()
			return nil, nil, err
		}
	}
	return clients, close, nil
}
