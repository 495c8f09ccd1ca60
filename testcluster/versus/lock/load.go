//go:build linux

package main

import (
	"context"
	"errors"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// pairs has every product take and give back a free lock in turn, pair by pair:
// under a context that has no end, and under one that can end.
func pairs(ctx context.Context, l *lab) error {
	clients := make([]client, len(l.products))
	for i, p := range l.products {
		team, end, err := l.team(ctx, p, 1)
		if err != nil {
			return err
		}
		defer end()
		clients[i] = team[0]
	}
	const warm = 100
	took := [2][]([]time.Duration){make([][]time.Duration, len(clients)), make([][]time.Duration, len(clients))}
	each := l.slice * time.Duration(len(clients)) / 2
	for n, begun := 0, time.Now(); n < warm*2 || time.Since(begun) < each; n++ {
		for k, under := range []context.Context{context.Background(), ctx} {
			for i, c := range clients {
				t := time.Now()
				if err := c.pair(under, l.products[i].name); err != nil {
					return err
				}
				if n >= warm {
					took[k][i] = append(took[k][i], time.Since(t))
				}
			}
		}
	}
	for i, p := range l.products {
		l.report("pair-p50", p, inMicros(percentile(took[0][i], 50)))
		l.report("pair-p99", p, inMicros(percentile(took[0][i], 99)))
		l.report("pair-ctx", p, inMicros(percentile(took[1][i], 50)))
	}
	return nil
}

// throughput has 64 goroutines of one client take locks of their own.
func throughput(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		team, end, err := l.team(ctx, p, 1)
		if err != nil {
			return err
		}
		defer end()
		burst := func(under context.Context, d time.Duration) (float64, error) {
			var n atomic.Int64
			begun := time.Now()
			err := crowd(64, func(i int) error {
				key := p.name + strconv.Itoa(i)
				for ; time.Since(begun) < d; n.Add(1) {
					if err := team[0].pair(under, key); err != nil {
						return err
					}
				}
				return nil
			})
			return float64(n.Load()) / time.Since(begun).Seconds(), err
		}
		if _, err := burst(ctx, l.slice/10); err != nil {
			return err
		}
		rate, err1 := burst(context.Background(), l.slice)
		under, err2 := burst(ctx, l.slice)
		if err := errors.Join(err1, err2); err != nil {
			return err
		}
		l.report("ops", p, rate)
		l.report("ops-ctx", p, under)
		return nil
	})
}

// crowd runs f on n goroutines.
func crowd(n int, f func(i int) error) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = f(i) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// race is what clients that want one lock all the time did.
type race struct {
	times   []float64 // how often each had it
	took    []time.Duration
	changes float64 // how often another one got it
	passed  time.Duration
	sent    traffic
}

// contend has n clients take one lock over and over for d, without a pause. In
// the first tenth nothing is counted.
func (l *lab) contend(ctx context.Context, p product, n int, d time.Duration) (race, error) {
	if p.asIs != nil {
		p.open = p.asIs // what helps it with a free lock makes it hang here
	}
	team, end, err := l.team(ctx, p, n)
	if err != nil {
		return race{}, err
	}
	var mu sync.Mutex
	r := race{times: make([]float64, n)}
	holder, counting, over := -1, false, false
	var released, begun time.Time
	var before, after traffic
	var failed error
	go func() {
		// The counters are read while it goes on: what comes before and after a
		// race would be in them else.
		time.Sleep(d / 10)
		b, err1 := l.srv.sent(ctx, p.sends)
		mu.Lock()
		before, begun, counting = b, time.Now(), true
		mu.Unlock()
		time.Sleep(d)
		a, err2 := l.srv.sent(ctx, p.sends)
		mu.Lock()
		defer mu.Unlock()
		after, r.passed, over = a, time.Since(begun), true
		failed = errors.Join(err1, err2)
	}()
	gone := func(err error) error {
		mu.Lock()
		defer mu.Unlock()
		if over {
			return nil
		}
		return err
	}
	// A client that still waits when all others are gone waits for ever: what was
	// counted by then counts.
	err = bounded(d+d/10+5*time.Second, func() error {
		defer end()
		return crowd(n, func(i int) error {
			for {
				h, err := team[i].lock(context.Background(), "one")
				if err != nil {
					return gone(err)
				}
				now := time.Now()
				mu.Lock()
				if counting && !over {
					r.times[i]++
					if holder >= 0 && holder != i {
						r.changes++
						r.took = append(r.took, now.Sub(released))
					}
				}
				holder = i
				last := over
				released = time.Now()
				mu.Unlock()
				if err := h.release(); err != nil {
					return gone(err)
				}
				if last {
					return nil
				}
			}
		})
	})
	mu.Lock()
	defer mu.Unlock()
	if errors.Is(err, errStuck) && over {
		say("%s: some clients still wait, for a lock that is free", p.name)
		err = nil
	}
	r.sent = traffic{after.commands - before.commands, after.reads - before.reads}
	return r, errors.Join(err, failed)
}

// contention has 64 clients want one lock.
func contention(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		r, err := l.contend(ctx, p, 64, l.slice*3/2)
		if err != nil {
			return err
		}
		sum, squares := 0.0, 0.0
		for _, x := range r.times {
			sum += x
			squares += x * x
		}
		l.report("jain", p, sum*sum/squares/float64(len(r.times)))
		l.report("trips", p, r.sent.reads/sum)
		l.report("calls", p, r.sent.commands/sum)
		return nil
	})
}

// handOver has 17 clients want one lock.
func handOver(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		r, err := l.contend(ctx, p, 17, l.slice)
		if err != nil {
			return err
		}
		l.report("hand-p50", p, inMicros(percentile(r.took, 50)))
		l.report("hand-p99", p, inMicros(percentile(r.took, 99)))
		l.report("hand-rate", p, r.changes/r.passed.Seconds())
		return nil
	})
}

// allocs counts what a pair takes from the heap, on all goroutines.
func allocs(ctx context.Context, l *lab) error {
	return l.inTurn(func(p product) error {
		team, end, err := l.team(ctx, p, 1)
		if err != nil {
			return err
		}
		defer end()
		for _, under := range []context.Context{context.Background(), ctx} {
			const n = 2000
			var before, after runtime.MemStats
			for i := range 2 * n {
				if i == n {
					runtime.ReadMemStats(&before)
				}
				if err := team[0].pair(under, p.name); err != nil {
					return err
				}
			}
			runtime.ReadMemStats(&after)
			if under == ctx {
				l.report("allocs-ctx", p, float64(after.Mallocs-before.Mallocs)/n)
				continue
			}
			l.report("allocs", p, float64(after.Mallocs-before.Mallocs)/n)
			l.report("bytes", p, float64(after.TotalAlloc-before.TotalAlloc)/n)
		}
		return nil
	})
}
