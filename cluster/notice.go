package cluster

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// A notice tells what one witness holds against a member. It goes straight to
// everybody by datagram. In a large cluster it goes to the other witnesses, and
// once a majority has changed their views, each hands what it was told on to its
// share of the ring, in one datagram each; gossip repeats it for whoever lost
// his. The accused gets it too: if it lives it
// refutes, with a higher epoch, and what was said of the lower one is void. A
// heartbeat is no refutation, for those counted before a death still travel.

const (
	frameNotice  = 'N'
	frameNotices = 'V'
	frameRefute  = 'E'

	// directNotices is up to how many members each witness tells all of.
	directNotices = 64
	maxNotices    = 32 // in one frame
	renewEvery    = 2 * time.Second
)

// notice is one frameNotice.
type notice struct {
	accused, witness Instance
	epoch            uint64
	seq              uint64
	ev               evidence
}

func noticeFrame(n notice) []byte {
	b := binary.BigEndian.AppendUint64([]byte{frameNotice}, uint64(n.accused))
	b = binary.BigEndian.AppendUint64(b, uint64(n.witness))
	b = binary.AppendUvarint(b, n.epoch)
	b = binary.AppendUvarint(b, n.seq)
	return append(b, byte(n.ev))
}

func parseNotice(b []byte) (notice, error) {
	bad := fmt.Errorf("%w: notice", errWire)
	if len(b) < 19 {
		return notice{}, bad
	}
	n := notice{accused: Instance(binary.BigEndian.Uint64(b)), witness: Instance(binary.BigEndian.Uint64(b[8:]))}
	b = b[16:]
	var k int
	if n.epoch, k = binary.Uvarint(b); k <= 0 {
		return notice{}, bad
	}
	b = b[k:]
	if n.seq, k = binary.Uvarint(b); k <= 0 || len(b) != k+1 || evidence(b[k]) > evSilent {
		return notice{}, bad
	}
	n.ev = evidence(b[k])
	return n, nil
}

// noticesFrame holds several notices, each with its length.
func noticesFrame(ns []notice) []byte {
	b := []byte{frameNotices}
	for _, n := range ns {
		one := noticeFrame(n)[1:]
		b = append(append(b, byte(len(one))), one...)
	}
	return b
}

func parseNotices(b []byte) ([]notice, error) {
	var out []notice
	for len(b) > 0 {
		size := int(b[0])
		if len(b) < 1+size || len(out) == maxNotices {
			return nil, fmt.Errorf("%w: notices", errWire)
		}
		n, err := parseNotice(b[1 : 1+size])
		if err != nil {
			return nil, err
		}
		out, b = append(out, n), b[1+size:]
	}
	return out, nil
}

func refuteFrame(i Instance, epoch uint64) []byte {
	return binary.AppendUvarint(binary.BigEndian.AppendUint64([]byte{frameRefute}, uint64(i)), epoch)
}

func parseRefute(b []byte) (Instance, uint64, error) {
	if len(b) < 9 {
		return 0, 0, fmt.Errorf("%w: refutation", errWire)
	}
	epoch, k := binary.Uvarint(b[8:])
	if k != len(b)-8 {
		return 0, 0, fmt.Errorf("%w: refutation", errWire)
	}
	return Instance(binary.BigEndian.Uint64(b)), epoch, nil
}

// tell sends what I hold against r. The caller holds c.mu; the datagrams go out
// from a goroutine of their own.
func (c *Cluster) tell(r *row, ev evidence) {
	to, frame := c.noticeFor(r, ev)
	c.sendAll(to, frame)
}

// tellAgain repeats what was the last word on r: a datagram may be lost. The
// caller holds c.mu.
func (c *Cluster) tellAgain(r *row, ev evidence) {
	to, frame := c.noticeFor(r, ev)
	c.spawn(func() {
		for _, wait := range []time.Duration{5 * time.Millisecond, 200 * time.Millisecond} {
			if !c.sleep(wait) {
				return
			}
			c.mu.Lock()
			c.sendAll(to, frame)
			c.mu.Unlock()
		}
	})
}

// noticeFor makes my notice about r, and says who gets it from me. The caller
// holds c.mu.
func (c *Cluster) noticeFor(r *row, ev evidence) (to []Member, frame []byte) {
	c.noticeSeq++
	r.told = time.Now()
	n := notice{accused: r.m.Instance, witness: c.self.m.Instance, epoch: r.epoch, seq: c.noticeSeq, ev: ev}
	ring := c.ring()
	partners := partnersOf(ring, r)
	for _, o := range ring {
		if o != c.self && (len(ring) <= directNotices || o == r || slices.Contains(partners, o)) {
			to = append(to, o.m)
		}
	}
	frame = noticeFrame(n)
	if len(ring) > directNotices {
		c.queueFrame("notice "+n.accused.String()+n.witness.String(), frame)
	}
	return to, frame
}

// passOn tells this peer's share of a large ring what the witnesses of r say, if
// it is one of them. The caller holds c.mu, and has not changed r's state yet: it
// is on the ring still.
func (c *Cluster) passOn(r *row, now time.Time) {
	ring := c.ring()
	if len(ring) <= directNotices || !slices.Contains(ring, r) {
		return
	}
	witnesses := partnersOf(c.soundRing(r, now), r)
	rank := slices.Index(witnesses, c.self)
	if rank < 0 {
		return
	}
	c.noticeSeq++
	ns := []notice{{accused: r.m.Instance, witness: c.self.m.Instance, epoch: r.epoch, seq: c.noticeSeq, ev: c.mineNow(r)}}
	for w, v := range r.votes {
		if len(ns) < maxNotices && now.Sub(v.at) < voteLife {
			ns = append(ns, notice{accused: r.m.Instance, witness: w, epoch: r.epoch, seq: v.seq, ev: v.ev})
		}
	}
	var to []Member
	for i, o := range ring {
		if o != c.self && o != r && i%len(witnesses) == rank {
			to = append(to, o.m)
		}
	}
	c.sendAll(to, noticesFrame(ns))
}

// sendAll sends one frame by datagram to each of to. The caller holds c.mu.
func (c *Cluster) sendAll(to []Member, frame []byte) {
	if len(to) == 0 {
		return
	}
	c.spawn(func() {
		for _, m := range to {
			node := &memberlist.Node{Name: nodeName(m.Name, m.Instance), Addr: m.Addr.Addr().AsSlice(), Port: m.Addr.Port()}
			if err := c.ml.SendBestEffort(node, frame); err != nil {
				c.logger.Debug("send a notice", "member", m.Name, "addr", m.Addr.String(), "err", err)
			}
		}
	})
}

// queueFrame lets gossip carry a frame; a later one of the same owner takes its
// place. The queue has a lock of its own and calls nothing back.
func (c *Cluster) queueFrame(owner string, frame []byte) {
	c.broadcasts.QueueBroadcast(recordBroadcast{owner: owner, frame: frame})
}

// takeNotices takes in what others say of their witnessing.
func (c *Cluster) takeNotices(ns ...notice) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range ns {
		c.takeNotice(n, time.Now())
	}
	c.publish()
}

// takeNotice takes in what another witness says. The caller holds c.mu and
// publishes.
func (c *Cluster) takeNotice(n notice, now time.Time) {
	if n.witness == c.self.m.Instance || c.closed {
		return
	}
	if n.accused == c.self.m.Instance {
		if n.ev.crash() && !c.left {
			c.refute(n)
		}
		return
	}
	r, w := c.rows[n.accused], c.rows[n.witness]
	if r == nil || w == nil || n.epoch < r.epoch {
		return
	}
	if n.epoch > r.epoch {
		r.epoch = n.epoch
		clear(r.votes)
	}
	old := r.votes[n.witness]
	if n.seq <= old.seq {
		return
	}
	if n.ev == evSilent && w.m.State != Alive {
		// It was cut off from me until now, and so perhaps from r, if r was on my side:
		// the silence is of then. If it still does not hear r it says so again.
		n.ev = evNone
	}
	if r.votes == nil {
		r.votes = map[Instance]vote{}
	}
	r.votes[n.witness] = vote{ev: n.ev, seq: n.seq, at: now}
	if len(c.ring()) > directNotices {
		c.queueFrame("notice "+n.accused.String()+n.witness.String(), noticeFrame(n))
	}
	// One voice is enough to look for oneself.
	if n.ev.crash() && r.partner && r.mine == evNone && r.m.State != Failed {
		c.lookAt(r)
	}
	c.judge(r)
	c.judgeNeighbours(r)
}

// refute answers an accusation: I live. The caller holds c.mu.
func (c *Cluster) refute(n notice) {
	if n.epoch >= c.self.epoch {
		c.self.epoch = n.epoch + 1
		c.logger.Warn("refuted a notice that this peer had crashed", "epoch", c.self.epoch)
	}
	frame := refuteFrame(c.self.m.Instance, c.self.epoch)
	var to []Member
	for _, o := range c.rows {
		if o != c.self && (o.m.State == Alive || o.m.State == Suspect) {
			to = append(to, o.m)
		}
	}
	if len(to) > directNotices {
		c.queueFrame("refute "+c.self.m.Instance.String(), frame)
		to = to[:directNotices]
	}
	c.sendAll(to, frame)
}

// takeRefute takes in that an accused lives.
func (c *Cluster) takeRefute(inst Instance, epoch uint64, frame []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[inst]
	if r == nil || r == c.self || epoch <= r.epoch {
		return
	}
	r.epoch = epoch
	clear(r.votes)
	r.crashed = false
	if r.mine.crash() {
		r.mine, r.quiet, r.had = evFirst, true, false // I cannot reach it; the others may
	}
	if len(c.ring()) > directNotices {
		c.queueFrame("refute "+inst.String(), frame)
	}
	c.judge(r)
	c.publish()
}
