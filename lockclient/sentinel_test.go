package lockclient_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/peerhq/peer/lockclient"
)

// A pair is a primary and its replica, and the Sentinel that promotes the one
// when the other is gone: three processes.
type pair struct {
	t                          testing.TB
	primary, replica, sentinel *redisServer
}

func startPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{t: t, primary: startRedis(t)}
	host, port, _ := net.SplitHostPort(p.primary.addr)
	p.replica = startRedis(t, "--replicaof", host, port, "--repl-diskless-sync-delay", "0")
	p.sentinel = startRedis(t) // a plain one first: this is how its address is found free
	conf := filepath.Join(p.sentinel.dir, "sentinel.conf")
	p.sentinel.kill()
	lines := fmt.Sprintf("sentinel monitor main %s %s 1\nsentinel down-after-milliseconds main 60000\nsentinel failover-timeout main 3000\n", host, port)
	if err := os.WriteFile(conf, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	_, sentinelPort, _ := net.SplitHostPort(p.sentinel.addr)
	p.sentinel.raw = []string{conf, "--sentinel", "--port", sentinelPort, "--bind", "127.0.0.1", "--dir", p.sentinel.dir}
	if err := p.sentinel.start(); err != nil {
		t.Fatal(err)
	}
	p.inStep()
	return p
}

func (p *pair) url() string { return "redis+sentinel://" + p.sentinel.addr + "/main" }

// await waits for what processes of their own do.
func (p *pair) await(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			p.t.Fatalf("not after a minute: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// inStep waits until the replica has what the primary has, and the Sentinel
// knows it as fit to be promoted.
func (p *pair) inStep() {
	p.t.Helper()
	p.await("the replica is in step", func() bool {
		return strings.Contains(fmt.Sprint(p.replica.do("INFO", "replication")), "master_link_status:up")
	})
	p.await("the sentinel knows the replica", func() bool {
		v, err := p.sentinel.admin().Do(context.Background(), "SENTINEL", "REPLICAS", "main").Slice()
		if err != nil {
			return false
		}
		text := strings.ReplaceAll(fmt.Sprint(v...), "master-link-status", "")
		return strings.Contains(text, p.replica.addr) && !strings.Contains(text, "s_down") && !strings.Contains(text, "disconnected")
	})
}

// deafen has the replica miss what comes now: the worst that a failover can do.
func (p *pair) deafen() {
	_ = p.replica.cmd.Process.Signal(syscall.SIGSTOP)
	p.primary.do("CLIENT", "KILL", "TYPE", "replica")
}

// failover kills the primary, and returns when that is gone and when the replica
// has taken its place. They change roles here.
func (p *pair) failover() (killed, promoted time.Time) {
	p.t.Helper()
	p.primary.kill()
	killed = time.Now()
	// Only one that is gone is down: on a busy machine one that lives may not answer
	// for half a second.
	p.sentinel.do("SENTINEL", "SET", "main", "down-after-milliseconds", "500")
	_ = p.replica.cmd.Process.Signal(syscall.SIGCONT)
	admin := p.replica.admin()
	p.await("the replica is promoted", func() bool {
		s, err := admin.Info(context.Background(), "replication").Result()
		return err == nil && strings.Contains(s, "role:master")
	})
	promoted = time.Now()
	p.sentinel.do("SENTINEL", "SET", "main", "down-after-milliseconds", "60000")
	p.primary, p.replica = p.replica, p.primary
	return killed, promoted
}

// rejoin starts the one that was killed, as a replica of the other.
func (p *pair) rejoin() {
	p.t.Helper()
	host, port, _ := net.SplitHostPort(p.primary.addr)
	p.replica.args = []string{"--replicaof", host, port, "--repl-diskless-sync-delay", "0"}
	if err := p.replica.start(); err != nil {
		p.t.Fatal(err)
	}
	p.inStep()
}

// A replica that missed the grant is promoted: the holder is told by its
// deadline, the fence rises, and the next gets the lock soon.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	const ttl = 3 * time.Second
	url := p.url()
	if p.sentinel.since("6.2") { // before that, a Sentinel has no users
		rights := moreRights(t, "A Sentinel's user needs")
		p.sentinel.do(append([]any{"ACL", "SETUSER", "looker", "on", ">SECRET"}, rights...)...)
		url += "?sentinel_username=looker&sentinel_password=SECRET"
	}
	at := func(cfg *lockclient.Config) { cfg.URL, cfg.TTL = url, ttl }
	a, b := p.primary.client(t, at), p.primary.client(t, at)
	useAll(t, a, b)
	p.deafen()
	l := hold(t, a, "demo")
	next := later(t, b, "demo")
	lost := lostAt(l)
	killed, promoted := p.failover()
	within(t, time.Minute, "the loss", lost)
	if d := l.Deadline().Sub(killed); d > ttl {
		t.Errorf("its deadline is %v after the primary was killed, want within %v", d, ttl)
	}
	won := within(t, time.Minute, "the next", next)
	if won.err != nil || won.lock.Fence() <= l.Fence() {
		t.Errorf("got %v, fence after %d", won, l.Fence())
	}
	t.Logf("promoted %v after the primary was killed, granted %v after that", promoted.Sub(killed), won.at.Sub(promoted))
	if d := won.at.Sub(promoted); d > 30*time.Second {
		t.Errorf("granted %v after the replica was promoted", d)
	}
	if _, err := b.TryAcquire(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	if p.sentinel.since("6.2") {
		time.Sleep(4 * time.Second) // what subscribes to a Sentinel sends a ping after 3 s of silence
		if denied := fmt.Sprint(p.sentinel.do("ACL", "LOG")); strings.Contains(denied, "looker") {
			t.Errorf("the Sentinel refused something: %s", denied)
		}
	}
}

// succession is the model of a lock over failovers: one at a time, but for one
// that the new primary never heard of, and that not for longer than a time to
// live after the old one was gone. Fences rise whatever happens.
type succession struct {
	ttl   time.Duration
	kills []time.Time                 // when a primary was gone, in order
	ends  map[uint64]map[string]int64 // of holds by fence and key, as the history has them
	start time.Time
}

// term is which primary made a grant. Its fence tells: it is the time in µs, of
// one clock here, unless the last one was in the same µs.
func (s succession) term(fence uint64) int {
	for i, k := range s.kills {
		if fence < uint64(k.UnixMicro()) {
			return i
		}
	}
	return len(s.kills)
}

// heirs is the state of one key: the fences of those who hold it.
type heirs struct {
	fences [4]uint64
	last   uint64
}

func (s succession) model() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return heirs{} },
		Step: func(state, input, _ any) (bool, any) {
			h, o := state.(heirs), input.(operation)
			if !o.begin {
				for i, f := range h.fences {
					if f == o.fence {
						h.fences[i] = 0
						return true, h
					}
				}
				return false, state
			}
			free := -1
			for i, f := range h.fences {
				if f == 0 {
					free = i
				} else if !s.forgotten(f, o) {
					return false, state
				}
			}
			if free < 0 || o.fence <= h.last {
				return false, state
			}
			h.fences[free], h.last = o.fence, o.fence
			return true, h
		},
		DescribeOperation: func(input, _ any) string { return fmt.Sprintf("%+v", input) },
	}
}

// forgotten reports whether the hold with fence may last while o begins: an
// earlier primary granted it, and it ended within a time to live of that one's end.
func (s succession) forgotten(fence uint64, o operation) bool {
	term := s.term(fence)
	if term >= s.term(o.fence) {
		return false
	}
	end, ok := s.ends[fence][o.key]
	return ok && end <= s.kills[term].Add(s.ttl).Sub(s.start).Nanoseconds()
}

// Clients contend while primaries are killed, at times with a replica that missed
// what they last did.
func TestSentinelHistory(t *testing.T) {
	t.Parallel()
	const ttl = 2 * time.Second
	p := startPair(t)
	h := &history{start: time.Now()}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan struct{}, 5)
	for i := range cap(ended) {
		c := p.primary.client(t, func(cfg *lockclient.Config) { cfg.URL, cfg.TTL = p.url(), ttl })
		go func() {
			defer func() { ended <- struct{}{} }()
			work(ctx, ttl, c, i+1, []string{"k", "l"}, h.add, func(err error) { t.Error(err) })
		}()
	}
	s := succession{ttl: ttl, start: h.start, ends: map[uint64]map[string]int64{}}
	var faults []string
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for i := range rounds {
		time.Sleep(ttl)
		if i%2 == 0 {
			p.deafen()
			time.Sleep(ttl / 2)
		}
		killed, promoted := p.failover()
		s.kills = append(s.kills, killed)
		faults = append(faults, fmt.Sprintf("primary killed at %v, replica without its last grants: %v, promoted after %v",
			killed.Sub(h.start), i%2 == 0, promoted.Sub(killed)))
		time.Sleep(ttl)
		if i+1 < rounds {
			p.rejoin()
		}
	}
	stop()
	for range cap(ended) {
		<-ended
	}
	overlaps := 0
	var last int64
	for _, o := range h.ops {
		if in := o.Input.(operation); !in.begin {
			if s.ends[in.fence] == nil {
				s.ends[in.fence] = map[string]int64{}
			}
			s.ends[in.fence][in.key] = o.Return
		}
	}
	for _, o := range h.ops {
		in := o.Input.(operation)
		if !in.begin {
			continue
		}
		if end, ok := s.ends[in.fence][in.key]; ok {
			if term := s.term(in.fence); term < len(s.kills) && end > s.kills[term].Sub(s.start).Nanoseconds() {
				overlaps++
				last = max(last, end-s.kills[term].Sub(s.start).Nanoseconds())
			}
		}
	}
	t.Logf("%d holds outlived their primary, the last by %v", overlaps, time.Duration(last))
	h.check(t, s.model(), faults, 4)
}
