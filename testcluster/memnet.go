package testcluster

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Link is one direction of the wire between two hosts. The zero Link is
// perfect.
type Link struct {
	Drop     bool          // nothing arrives: datagrams are lost, streams stall, dials time out
	Refuse   bool          // a firewall answers every stream segment with RST; datagrams pass
	BlockUDP bool          // datagrams are lost, streams pass
	Loss     float64       // probability that a datagram or a stream segment is lost, 0 to 1
	Latency  time.Duration // of every datagram and segment
	Jitter   time.Duration // up to this much is added to Latency, evenly spread; streams stay in order
}

// Net is a simulated network. Create one with [NewNet]; all its methods may be
// called from any goroutine.
type Net struct {
	seed uint64

	mu    sync.Mutex // guards all below, and every Host, socket and stream of this Net
	hosts map[netip.Addr]*Host
	link  Link
	links map[pair]Link
	cuts  map[pair]bool
	seq   map[pair]uint64
}

type pair struct{ from, to netip.Addr }

// NewNet returns an empty network on which every pair of hosts is joined by
// link. What is lost and how late the rest comes depends on seed, the pair and
// the number of the packet on that pair, so that one pair's luck does not
// depend on what others send.
func NewNet(seed uint64, link Link) *Net {
	return &Net{
		seed:  seed,
		link:  link,
		hosts: map[netip.Addr]*Host{},
		links: map[pair]Link{},
		cuts:  map[pair]bool{},
		seq:   map[pair]uint64{},
	}
}

// Host returns the host with this address, and plugs it in when it is new. Each
// host has 127.0.0.0/8 and ::1 to itself besides. It panics when addr is not an
// IP address.
func (n *Net) Host(addr string) *Host {
	ip, err := netip.ParseAddr(addr)
	if err != nil || !ip.IsValid() || ip.IsLoopback() || ip.IsUnspecified() {
		panic(fmt.Sprintf("testcluster: %q is no address for a host", addr))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[ip]
	if h == nil {
		h = newHost(n, ip)
		n.hosts[ip] = h
	}
	return h
}

// SetDefault changes the link of every pair that has none of its own.
func (n *Net) SetDefault(l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.link = l
}

// SetLink gives the direction from one host to another a link of its own.
func (n *Net) SetLink(from, to *Host, l Link) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.links[pair{from.addr, to.addr}] = l
}

// Cut parts every host of a from every host of b, both ways, silently.
func (n *Net) Cut(a, b []*Host) {
	n.CutOneWay(a, b)
	n.CutOneWay(b, a)
}

// CutOneWay loses all that hosts of from send to hosts of to.
func (n *Net) CutOneWay(from, to []*Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, f := range from {
		for _, t := range to {
			if f != t {
				n.cuts[pair{f.addr, t.addr}] = true
			}
		}
	}
}

// Isolate pulls h's cable: it is parted from every other host, those to come
// included.
func (n *Net) Isolate(h *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h.isolated = true
}

// Heal undoes every Cut, CutOneWay and Isolate, and clears Drop, Refuse and
// BlockUDP of every link. Loss and latency stay as they were set.
func (n *Net) Heal() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.cuts)
	mend := func(l Link) Link {
		l.Drop, l.Refuse, l.BlockUDP = false, false, false
		return l
	}
	n.link = mend(n.link)
	for p, l := range n.links {
		n.links[p] = mend(l)
	}
	for _, h := range n.hosts {
		h.isolated = false
	}
}

// Hosts returns all hosts, sorted by address.
func (n *Net) Hosts() []*Host {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.SortedFunc(maps.Values(n.hosts), func(a, b *Host) int { return a.addr.Compare(b.addr) })
}

// fate is what becomes of one packet.
type fate struct {
	lost    bool
	refused bool // only for streams: RST comes back
	delay   time.Duration
}

// send decides the fate of one packet. Both hosts are addresses of machines,
// or the same loopback address. The caller holds n.mu.
func (n *Net) send(from, to netip.Addr, stream bool) fate {
	if from == to || from.IsLoopback() || to.IsLoopback() {
		return fate{}
	}
	p := pair{from, to}
	l, ok := n.links[p]
	if !ok {
		l = n.link
	}
	src, dst := n.hosts[from], n.hosts[to]
	switch {
	case src == nil || dst == nil || src.isolated || dst.isolated || src.state == hostOff || dst.state == hostOff:
		return fate{lost: true}
	case l.Drop || n.cuts[p]:
		return fate{lost: true}
	case l.BlockUDP && !stream:
		return fate{lost: true}
	}
	n.seq[p]++
	f := fate{delay: l.Latency, refused: l.Refuse && stream}
	if l.Jitter > 0 {
		f.delay += time.Duration(n.luck(p, n.seq[p], 1) * float64(l.Jitter))
	}
	f.lost = l.Loss > 0 && n.luck(p, n.seq[p], 2) < l.Loss
	return f
}

// luck returns a number in [0, 1) that depends on its arguments and the seed
// alone.
func (n *Net) luck(p pair, seq, salt uint64) float64 {
	x := mix(n.seed ^ salt)
	for _, a := range []netip.Addr{p.from, p.to} {
		b := a.As16()
		for i := 0; i < len(b); i += 8 {
			var w uint64
			for _, c := range b[i : i+8] {
				w = w<<8 | uint64(c)
			}
			x = mix(x ^ w)
		}
	}
	return float64(mix(x^seq)>>11) / (1 << 53)
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// after runs f with n.mu held when d has passed, at once when d is not
// positive. The caller holds n.mu.
func (n *Net) after(d time.Duration, f func()) *time.Timer {
	if d <= 0 {
		f()
		return nil
	}
	return time.AfterFunc(d, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		f()
	})
}
