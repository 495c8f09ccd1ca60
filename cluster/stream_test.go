package cluster_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/peerhq/peer/cluster"
)

// resetting is a host's network on which, once someone dies, the first dials to
// each address end in a reset and only later ones in a refusal: so it looks while
// a kernel still closes the files of a dead process.
type resetting struct {
	cluster.Network
	times int

	mu    sync.Mutex
	dials map[netip.AddrPort]int
	dying bool
}

func (r *resetting) Dial(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	r.mu.Lock()
	r.dials[addr]++
	reset := r.dying && r.dials[addr] <= r.times
	r.mu.Unlock()
	if reset {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNRESET}
	}
	return r.Network.Dial(ctx, addr)
}

func (r *resetting) die() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dying = true
	clear(r.dials)
}

// When all others die at once the survivor's ring moves with each doubt, and it
// dials new successors while they die. A reset then must not count as a dial
// that said nothing, to be repeated a second later.
func TestResetsWhileAllOthersDie(t *testing.T) {
	for _, n := range []int{2, 6, 10, 20} {
		inWorld(t, func(t *testing.T, w *world) {
			var last *resetting
			ps := w.group(n, func(c *cluster.Config) {
				last = &resetting{Network: c.Network, times: 3, dials: map[netip.AddrPort]int{}}
				c.Network = last
			})
			settle()
			last.die()
			lone := ps[n-1]
			for _, p := range ps[:n-1] {
				p.host.Crash()
			}
			took := w.within(200*time.Millisecond, "all others out of rotation", func() bool { return len(lone.View().Eligible()) == 1 })
			t.Logf("%d: after %v", n, took)
			if _, err := last.Dial(t.Context(), ps[0].Self().Addr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%d: a last dial ends in %v, want a refusal: no dial met a reset", n, err)
			}
		})
	}
}
