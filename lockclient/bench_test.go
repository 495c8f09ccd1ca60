package lockclient_test

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/peerhq/peer/lockclient"
)

var rawRelease = redis.NewScript(`if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0`)

// rawPair is the least that a lock without any promise costs: SET NX PX, and a
// compare-and-delete script.
func rawPair(ctx context.Context, b *testing.B, c *redis.Client, key string) {
	if ok, err := c.SetNX(ctx, key, "token", 15*time.Second).Result(); err != nil || !ok {
		b.Fatal(ok, err)
	}
	if err := rawRelease.Run(ctx, c, []string{key}, "token").Err(); err != nil {
		b.Fatal(err)
	}
}

func lockPair(ctx context.Context, b *testing.B, c *lockclient.Client, name string) {
	l, err := c.TryAcquire(ctx, name)
	if err != nil {
		b.Fatal(err)
	}
	if err := l.Release(ctx); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUncontended alternates raw pairs and ours in one run, so that the
// ratio does not depend on how busy the machine is.
func BenchmarkUncontended(b *testing.B) {
	s := startRedis(b)
	ctx := context.Background()
	raw := s.admin()
	c := s.client(b)
	for range 200 {
		rawPair(ctx, b, raw, "raw")
		lockPair(ctx, b, c, "demo")
	}
	var rawTook, took []time.Duration
	for b.Loop() {
		t0 := time.Now()
		rawPair(ctx, b, raw, "raw")
		t1 := time.Now()
		lockPair(ctx, b, c, "demo")
		rawTook, took = append(rawTook, t1.Sub(t0)), append(took, time.Since(t1))
	}
	report(b, "raw", rawTook)
	report(b, "ours", took)
	b.ReportMetric(percentile(took, 50)/percentile(rawTook, 50), "x-raw-p50")
}

func BenchmarkAllocs(b *testing.B) {
	s := startRedis(b)
	ctx := context.Background()
	b.Run("raw", func(b *testing.B) {
		c := s.admin()
		b.ReportAllocs()
		for b.Loop() {
			rawPair(ctx, b, c, "raw")
		}
	})
	b.Run("ours", func(b *testing.B) {
		c := s.client(b)
		b.ReportAllocs()
		for b.Loop() {
			lockPair(ctx, b, c, "demo")
		}
	})
}

// BenchmarkThroughput: 64 goroutines, each with a key of its own.
func BenchmarkThroughput(b *testing.B) {
	const goroutines = 64
	s := startRedis(b)
	ctx := context.Background()
	run := func(b *testing.B, pair func(key string)) {
		pair("warm")
		var wg sync.WaitGroup
		start := time.Now()
		for g := range goroutines {
			wg.Go(func() {
				for range b.N/goroutines + 1 {
					pair("k" + strconv.Itoa(g))
				}
			})
		}
		wg.Wait()
		b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "ops/s")
	}
	b.Run("raw", func(b *testing.B) {
		c := s.admin()
		run(b, func(key string) { rawPair(ctx, b, c, key) })
	})
	b.Run("ours", func(b *testing.B) {
		c := s.client(b)
		run(b, func(key string) { lockPair(ctx, b, c, key) })
	})
}

// BenchmarkHandover: 16 clients of their own take one lock in turn.
func BenchmarkHandover(b *testing.B) {
	for _, clients := range []int{2, 16, 64} {
		b.Run("clients="+strconv.Itoa(clients), func(b *testing.B) { handover(b, clients) })
	}
}

func handover(b *testing.B, clients int) {
	s := startRedis(b)
	ctx := context.Background()
	var mu sync.Mutex
	var released time.Time
	var took []time.Duration
	var last, violations int
	var fence uint64
	counts := make([]int, clients)
	n := 0
	var wg sync.WaitGroup
	before := commands(b, s)
	b.ResetTimer()
	start := time.Now()
	for g := range clients {
		c := s.client(b)
		wg.Go(func() {
			for {
				l, err := c.Acquire(ctx, "demo")
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				if !released.IsZero() && last != g {
					took = append(took, time.Since(released))
				}
				if l.Fence() <= fence {
					violations++
				}
				fence, last = l.Fence(), g
				counts[g]++
				n++
				over := n >= b.N
				released = time.Now()
				mu.Unlock()
				if err := l.Release(ctx); err != nil {
					b.Error(err)
				}
				if over {
					return
				}
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	b.StopTimer()
	if violations > 0 {
		b.Errorf("%d fences did not rise", violations)
	}
	report(b, "hand-over", took)
	var sum, squares float64
	for _, n := range counts {
		sum += float64(n)
		squares += float64(n) * float64(n)
	}
	b.ReportMetric(sum*sum/squares/float64(clients), "jain")
	b.ReportMetric(sum/elapsed.Seconds(), "per-s")
	b.ReportMetric(float64(commands(b, s)-before)/sum, "evals/acq")
}

// commands counts the scripts that s has run.
func commands(b testing.TB, s *redisServer) int {
	n := 0
	c := s.admin()
	info, err := c.InfoMap(context.Background(), "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	for k, v := range info["Commandstats"] {
		if k == "cmdstat_evalsha" || k == "cmdstat_eval" {
			n += calls(v)
		}
	}
	return n
}

func calls(stat string) int {
	n := 0
	for i := len("calls="); i < len(stat) && stat[i] >= '0' && stat[i] <= '9'; i++ {
		n = n*10 + int(stat[i]-'0')
	}
	return n
}

func percentile(d []time.Duration, p int) float64 {
	if len(d) == 0 {
		return 0
	}
	d = slices.Sorted(slices.Values(d))
	return float64(d[min(len(d)-1, len(d)*p/100)].Nanoseconds()) / 1000
}

func report(b *testing.B, what string, d []time.Duration) {
	b.ReportMetric(percentile(d, 50), what+"-p50-µs")
	b.ReportMetric(percentile(d, 99), what+"-p99-µs")
}
