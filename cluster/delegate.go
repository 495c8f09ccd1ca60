package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
)

// delegate is what memberlist calls. The event methods run with memberlist's
// table locked and the packet methods in its receive path: they copy what they
// need, never block, and never call memberlist.
type delegate struct{ c *Cluster }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.PingDelegate  = delegate{}
)

var (
	errSuperseded = errors.New("superseded by a later start")
	errCrowded    = errors.New("the table is full")
	errForged     = errors.New("it contradicts what is known: forged, or two peers advertise one address")
	errVersions   = errors.New("its protocol versions would shut everybody else out")
)

// maxMembers bounds the table: forged announcements must not fill the memory.
const maxMembers = 10_000

// NotifyAlive refuses what memberlist would take in blindly: a node without
// our name form, meta or a usable address, and a start that was replaced.
// Having it at all makes memberlist drop announcements without versions, one
// of which would poison its table for ever.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	name, inst, err := parseNodeName(n.Name)
	if err != nil {
		return err
	}
	if _, _, err := parseMeta(n.Meta); err != nil {
		return err
	}
	addr, err := nodeAddr(n)
	if err != nil {
		return err
	}
	if !compatible(n) {
		return errVersions
	}
	c := d.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, gone := c.gone[inst]; gone {
		return errSuperseded
	}
	r := c.rows[inst]
	switch {
	case r == nil && len(c.rows) >= maxMembers:
		return errCrowded
	case r != nil && r.m.Name != name:
		return errForged // an instance has one name
	case inst != c.self.m.Instance && addr == c.self.m.Addr && (name != c.self.m.Name || inst > c.self.m.Instance):
		return errForged // this peer itself has that port, whatever others say
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

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

func nodeAddr(n *memberlist.Node) (netip.AddrPort, error) {
	ip, _ := netip.AddrFromSlice(n.Addr)
	ip = ip.Unmap()
	if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || ip == broadcastAddr || n.Port == 0 {
		return netip.AddrPort{}, fmt.Errorf("%w: address", errWire)
	}
	return netip.AddrPortFrom(ip, n.Port), nil
}

// NotifyJoin is called with memberlist's table locked.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.up(n) }

// NotifyUpdate is called with memberlist's table locked.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.up(n) }

func (d delegate) up(n *memberlist.Node) {
	name, inst, err := parseNodeName(n.Name)
	if err != nil {
		return
	}
	addr, err := nodeAddr(n)
	if err != nil {
		return
	}
	number, version, err := parseMeta(n.Meta)
	if err != nil {
		return
	}
	d.c.memberUp(name, inst, addr, number, version)
}

// NotifyLeave is called with memberlist's table locked, for the dead and the
// left alike.
func (d delegate) NotifyLeave(n *memberlist.Node) {
	if _, inst, err := parseNodeName(n.Name); err == nil {
		d.c.memberDown(inst)
	}
}

// NodeMeta is called when memberlist announces this peer.
func (d delegate) NodeMeta(limit int) []byte {
	c := d.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return appendMeta(nil, c.self.number, c.cfg.Version)
}

// NotifyMsg is called from the packet goroutine and from stream goroutines;
// buf is memberlist's own.
func (d delegate) NotifyMsg(buf []byte) { d.c.takeFrame(bytes.Clone(buf), time.Now()) }

// GetBroadcasts is called for every packet that has room.
func (d delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.c.broadcasts.GetBroadcasts(overhead, limit)
}

// LocalState is this peer's half of a push/pull.
func (d delegate) LocalState(join bool) []byte { return d.c.localState(time.Now()) }

// MergeRemoteState is called after memberlist has merged the node list, so that
// all instances named here are known.
func (d delegate) MergeRemoteState(buf []byte, join bool) {
	d.c.mergeState(bytes.Clone(buf), time.Now())
}

// AckPayload is called in the receive path when a ping is answered.
func (d delegate) AckPayload() []byte {
	return d.c.ack(time.Now()).append(nil)
}

// NotifyPingComplete is called by the prober for every ack that came by UDP.
func (d delegate) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	_, inst, err := parseNodeName(n.Name)
	if err != nil {
		return
	}
	now := time.Now()
	c := d.c
	a, err := parseAck(payload)
	if err != nil {
		c.logger.Debug("dropped malformed gossip", "member", n.Name, "err", err)
	}
	c.mu.Lock()
	c.acked = now
	if r := c.rows[inst]; r != nil && r != c.self {
		r.m.pulse.rtt.Store(int64(max(rtt, 1)))
		r.m.pulse.touch(now)
		c.heardFrom(r)
		c.publish()
		if err == nil {
			c.compare(r, a.roster, now)
		}
	}
	c.mu.Unlock()
	c.hearBeats(a.beats, now)
}
