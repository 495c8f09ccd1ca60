package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/address"
	"github.com/peerhq/peer/cluster/internal/core"
)

// delegate is what memberlist calls. The event methods run with memberlist's
// table locked and the packet methods in its receive path: they copy what they
// need, wait for nothing but the owner's queue, and never call memberlist.
type delegate struct{ c *Cluster }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.PingDelegate  = delegate{}
)

var (
	errCrowded  = errors.New("the table is full")
	errForged   = errors.New("it contradicts what is known: forged, or two peers advertise one address")
	errVersions = errors.New("its protocol versions would shut everybody else out")
)

// maxNodes bounds memberlist's own table: forged announcements must not fill the
// memory.
const maxNodes = 16_384

// nodes are the instances in memberlist's table.
type nodes struct {
	mu sync.Mutex
	in map[Instance]struct{}
}

func (n *nodes) add(i Instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.in[i] = struct{}{}
}

func (n *nodes) remove(i Instance) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.in, i)
}

func (n *nodes) roomFor(i Instance) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, known := n.in[i]
	return known || len(n.in) < maxNodes
}

// NotifyAlive refuses what memberlist would take in blindly: a node without
// our name form, meta or a usable address. Having it at all makes memberlist drop
// announcements without versions, one of which would poison its table for ever.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	c := d.c
	name, inst, err := parseNodeName(n.Name)
	if err != nil {
		return err
	}
	if _, err := parseMeta(n.Meta); err != nil {
		return err
	}
	addr, err := nodeAddr(n)
	if err != nil {
		return err
	}
	if err := address.Refuse(addr, c.advertised()); err != nil {
		return fmt.Errorf("member %s: %w", name, err)
	}
	self := c.instance()
	switch {
	case !compatible(n):
		return errVersions
	case inst == self && (name != c.cfg.Name || addr != c.advertised()):
		return errForged
	case inst > self && addr == c.advertised() && name != c.cfg.Name:
		return errForged // this peer itself has that port, whatever others say
	case !c.nodes.roomFor(inst):
		return errCrowded
	}
	return nil
}

// compatible says whether n's protocol versions leave room for everybody
// else's. memberlist refuses every exchange of the whole cluster for as long as
// one member's do not.
func compatible(n *memberlist.Node) bool {
	const ours = memberlist.ProtocolVersion2Compatible
	return n.PMin <= ours && ours <= n.PMax && n.PMin <= n.PCur && n.PCur <= memberlist.ProtocolVersionMax &&
		n.DMin == 0 && n.DCur == 0
}

func nodeAddr(n *memberlist.Node) (netip.AddrPort, error) {
	ip, _ := netip.AddrFromSlice(n.Addr)
	addr := netip.AddrPortFrom(ip.Unmap(), n.Port)
	if !core.Usable(addr) {
		return netip.AddrPort{}, fmt.Errorf("%w: address", core.ErrWire)
	}
	return addr, nil
}

// NotifyJoin is called with memberlist's table locked.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.opinion(n, false) }

// NotifyUpdate is called with memberlist's table locked.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.opinion(n, false) }

// NotifyLeave is called with memberlist's table locked, for the dead and the
// left alike.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.opinion(n, true) }

func (d delegate) opinion(n *memberlist.Node, dead bool) {
	_, inst, err := parseNodeName(n.Name)
	if err != nil {
		return
	}
	addr, err := nodeAddr(n)
	if err != nil {
		return
	}
	if dead {
		d.c.nodes.remove(inst)
	} else {
		d.c.nodes.add(inst)
	}
	d.c.step(core.Swim{Peer: core.ID(inst), Addr: addr, Dead: dead})
}

// NodeMeta is called when memberlist announces this peer.
func (d delegate) NodeMeta(int) []byte { return appendMeta(nil) }

// NotifyMsg is called from the packet goroutine and from stream goroutines;
// buf is memberlist's own.
func (d delegate) NotifyMsg(buf []byte) {
	if in := d.c.readFrame(bytes.Clone(buf)); in != nil {
		d.c.step(in)
	}
}

// GetBroadcasts is called for every packet that has room.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.broadcasts.GetBroadcasts(overhead, limit)
}

// LocalState is this peer's half of a push/pull.
func (d delegate) LocalState(bool) []byte { return d.c.localState() }

// MergeRemoteState is called after memberlist has merged the node list.
func (d delegate) MergeRemoteState(buf []byte, _ bool) { d.c.mergeState(bytes.Clone(buf)) }

// AckPayload is called in the receive path when a ping is answered.
func (d delegate) AckPayload() []byte { return d.c.ack.Load().append(nil, d.c.now()) }

// NotifyPingComplete is called by the prober for every ack that came by UDP.
func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	_, inst, err := parseNodeName(n.Name)
	if err != nil {
		return
	}
	c := d.c
	c.acked.Store(int64(c.now()))
	a, err := parseAck(payload)
	if err != nil {
		c.logger.Debug("dropped malformed gossip", "member", n.Name, "err", err)
		return
	}
	id := core.ID(inst)
	c.submit(input{in: core.Ack{Peer: id, Hash: a.hash, Beats: a.beats}, do: func(*core.Core) {
		if p := c.pulses[id]; p != nil {
			p.rtt.Store(int64(max(rtt, 1)))
		}
	}})
}
