package cluster

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/keys"
)

// Tags and services do not fit memberlist's 512 bytes of meta. Each member owns
// one record and numbers it; meta carries only the number. A small record is
// sent to all and broadcast, of a large one only the number; push/pull repairs
// what was missed, and whoever still lacks the number that was announced asks
// the owner for the record over a stream.

const (
	broadcastRecord = 1000      // bytes; what is larger is fetched
	stateRecords    = 256 << 10 // bytes of records in one push/pull
	fetchAfter      = 100 * time.Millisecond
	fetchTries      = 5
)

// emptyRecord is what a member announces that has neither tags nor services.
var emptyRecord, _ = encodeRecord(record{})

// recordBroadcast is one record in the gossip queue; a newer one of the same
// owner takes its place.
type recordBroadcast struct {
	owner string
	frame []byte
}

func (b recordBroadcast) Name() string    { return b.owner }
func (b recordBroadcast) Message() []byte { return b.frame }
func (b recordBroadcast) Finished()       {}
func (b recordBroadcast) Invalidates(o memberlist.Broadcast) bool {
	n, ok := o.(memberlist.NamedBroadcast)
	return ok && n.Name() == b.owner
}

// SetTags replaces this peer's tags for everybody.
func (c *Cluster) SetTags(tags map[string]string) error {
	return c.announce(func(r *record) { r.Tags = tags })
}

// SetServices replaces this peer's services for everybody.
func (c *Cluster) SetServices(services []Service) error {
	return c.announce(func(r *record) { r.Services = services })
}

// announce changes this peer's own record and spreads it. It does not wait for
// anybody to have it.
func (c *Cluster) announce(change func(*record)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	rec := record{Tags: c.self.m.Tags, Services: c.self.m.Services}
	change(&rec)
	if err := c.setOwn(rec); err != nil {
		return err
	}
	c.emit(Updated, c.self)
	c.publish()
	c.spreadOwn()
	return nil
}

// spreadOwn tells everybody that this peer's record has changed. The caller
// holds c.mu.
func (c *Cluster) spreadOwn() {
	s := c.self
	c.spread(s)
	c.renumber()
	frame := numberFrame(s.m.Instance, s.number)
	if len(s.body) <= broadcastRecord {
		frame = recordFrame(s.m.Instance, s.number, s.body)
	}
	var to []Member
	for _, r := range c.rows {
		if len(to) < directNotices && r != s && (r.m.State == Alive || r.m.State == Suspect) {
			to = append(to, r.m)
		}
	}
	c.sendAll(to, frame)
}

// renumber puts the new number into meta, for those whom the broadcast misses.
// The caller holds c.mu, which memberlist's own lock comes before. One at a time:
// UpdateNode must not run beside itself.
func (c *Cluster) renumber() {
	if c.renumbering {
		return // it sees the number when it has done the one before
	}
	c.renumbering = c.spawn(func() {
		for done := uint64(0); ; {
			c.mu.Lock()
			number := c.self.number
			c.renumbering = number != done
			again := c.renumbering
			c.mu.Unlock()
			if !again {
				return
			}
			// The broadcast is queued at once; how long it waits for that to be sent
			// plays no part.
			_ = c.ml.UpdateNode(time.Millisecond)
			done = number
		}
	})
}

// setOwn checks rec and makes it this peer's record. The caller holds c.mu.
func (c *Cluster) setOwn(rec record) error {
	if err := validateTags(rec.Tags); err != nil {
		return err
	}
	if err := validateServices(rec.Services); err != nil {
		return err
	}
	body, err := encodeRecord(rec)
	if err != nil {
		return err
	}
	s := c.self
	s.number++
	s.wanted = s.number
	s.body = body
	s.m.Tags, s.m.Services = rec.Tags, rec.Services
	if s.m.Tags == nil {
		s.m.Tags = map[string]string{}
	}
	return nil
}

// spread queues r's record for gossip if it is small enough. The caller holds
// c.mu; the queue has a lock of its own and calls nothing back.
func (c *Cluster) spread(r *row) {
	if len(r.body) > broadcastRecord {
		return
	}
	c.broadcasts.QueueBroadcast(recordBroadcast{
		owner: r.m.Instance.String(),
		frame: recordFrame(r.m.Instance, r.number, r.body),
	})
}

// takeRecord takes in a record from the wire.
func (c *Cluster) takeRecord(inst Instance, number uint64, body []byte) error {
	rec, err := decodeRecord(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.rows[inst]
	if r == c.self {
		c.contradict(number, body)
		return nil
	}
	if r == nil || number <= r.number {
		return nil
	}
	old := r.body
	if old == nil {
		old = emptyRecord
	}
	r.number, r.body = number, body
	r.wanted = max(r.wanted, number)
	r.m.Tags, r.m.Services = rec.Tags, rec.Services
	if r.m.Tags == nil {
		r.m.Tags = map[string]string{}
	}
	if !bytes.Equal(old, body) { // a first record without tags is no news
		c.emit(Updated, r)
	}
	c.spread(r)
	c.publish()
	return nil
}

// contradict numbers this peer's record past one that somebody spread in its
// name, so that its own is the newest again. The caller holds c.mu.
func (c *Cluster) contradict(number uint64, body []byte) {
	s := c.self
	if number < s.number || number == s.number && bytes.Equal(body, s.body) || c.left || c.closed {
		return
	}
	s.number = min(number, maxCount-1) + 1
	s.wanted = s.number
	c.logger.Warn("somebody spread a record in this peer's name, contradicting it")
	c.spreadOwn()
}

// takeNumber takes in that inst has a record of this number.
func (c *Cluster) takeNumber(inst Instance, number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.rows[inst]; r != nil && r != c.self {
		r.wanted = max(r.wanted, number)
		c.fetchLater(r)
	}
}

// fetchLater asks r's owner for its record if neither broadcast nor push/pull
// brings it soon. The caller holds c.mu.
func (c *Cluster) fetchLater(r *row) {
	if r.asked || r.number >= r.wanted || c.closed {
		return
	}
	r.asked = true
	inst := r.m.Instance
	c.spawn(func() {
		wait := fetchAfter
		for range fetchTries {
			if !c.sleep(wait/2 + rand.N(wait)) {
				return
			}
			c.mu.Lock()
			r := c.rows[inst]
			if r == nil || r.number >= r.wanted || (r.m.State != Alive && r.m.State != Suspect) {
				if r != nil {
					r.asked = false
				}
				c.mu.Unlock()
				return
			}
			name, addr := r.m.Name, r.m.Addr
			c.mu.Unlock()
			if err := c.sendReliable(name, inst, addr, wantedFrame([]Instance{c.self.m.Instance, inst})); err != nil {
				c.logger.Debug("ask for a record", "member", name, "addr", addr.String(), "err", err)
			}
			wait *= 2
		}
		c.mu.Lock()
		if r := c.rows[inst]; r != nil {
			r.asked = false
		}
		c.mu.Unlock()
	})
}

// localState is what this peer tells in a push/pull: heartbeats, goodbyes and
// records, its own first.
func (c *Cluster) localState(now time.Time) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := []byte{wireVersion}
	b = appendFrame(b, recordFrame(c.self.m.Instance, c.self.number, c.self.body))
	beats := []beat{{c.self.m.Instance, c.beatNow(now), 0}}
	size := 0
	for _, r := range c.rows {
		if r == c.self {
			continue
		}
		if r.farewell > 0 {
			b = appendFrame(b, farewellFrame(r.m.Instance, r.farewell))
			continue
		}
		if r.m.State == Failed {
			continue
		}
		if n := r.m.pulse.beat.Load(); n > 0 && len(beats) < maxBeats {
			beats = append(beats, beat{r.m.Instance, n, now.Sub(r.m.pulse.last())})
		}
		if r.number > 0 && size+len(r.body) <= stateRecords {
			size += len(r.body)
			b = appendFrame(b, recordFrame(r.m.Instance, r.number, r.body))
		}
	}
	return appendFrame(b, appendBeats([]byte{frameBeats}, beats))
}

// mergeState takes in the other half of a push/pull.
func (c *Cluster) mergeState(b []byte, now time.Time) {
	if len(b) == 0 || b[0] != wireVersion {
		return
	}
	b = b[1:]
	for len(b) > 0 {
		frame, rest, err := cutFrame(b)
		if err != nil {
			c.logger.Debug("dropped malformed gossip", "err", err)
			return
		}
		c.takeFrame(frame, now)
		b = rest
	}
}

// takeFrame takes in one frame; b is ours to keep.
func (c *Cluster) takeFrame(b []byte, now time.Time) {
	if len(b) == 0 {
		return
	}
	var err error
	switch b[0] {
	case frameFarewell:
		var i Instance
		var count uint64
		if i, count, err = parseFarewell(b[1:]); err == nil {
			c.memberGone(i, count)
		}
	case frameRecord:
		var i Instance
		var number uint64
		var body []byte
		if i, number, body, err = parseRecord(b[1:]); err == nil {
			err = c.takeRecord(i, number, body)
		}
	case frameNumber:
		var i Instance
		var number uint64
		if i, number, err = parseNumber(b[1:]); err == nil {
			c.takeNumber(i, number)
		}
	case frameNotice:
		var n notice
		if n, err = parseNotice(b[1:]); err == nil {
			c.takeNotices(n)
		}
	case frameNotices:
		var ns []notice
		if ns, err = parseNotices(b[1:]); err == nil {
			c.takeNotices(ns...)
		}
	case frameRefute:
		var i Instance
		var epoch uint64
		if i, epoch, err = parseRefute(b[1:]); err == nil {
			c.takeRefute(i, epoch, b)
		}
	case keys.FrameCommand, keys.FrameAnswer, keys.FrameProgress:
		err = c.keys.Take(b)
	case frameWanted:
		err = c.takeWanted(b[1:])
	case frameBeats:
		var beats []beat
		if beats, err = parseBeats(b[1:]); err == nil {
			c.hearBeats(beats, now)
		}
	default: // from a later version: not for us
	}
	if err != nil {
		c.logger.Debug("dropped malformed gossip", "err", err)
	}
}

// takeWanted answers who asks for records. The first instance is the asker's.
func (c *Cluster) takeWanted(b []byte) error {
	is, err := parseWanted(b)
	if err != nil || len(is) == 0 {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	to := c.rows[is[0]]
	if to == nil || to == c.self || c.closed {
		return nil
	}
	var frames [][]byte
	for _, i := range is[1:] {
		if r := c.rows[i]; r != nil && r.number > 0 {
			frames = append(frames, recordFrame(i, r.number, r.body))
		}
	}
	name, inst, addr := to.m.Name, to.m.Instance, to.m.Addr
	select {
	case c.answers <- struct{}{}:
	default:
		return nil // busy: the asker tries again
	}
	c.spawn(func() {
		defer func() { <-c.answers }()
		for _, f := range frames {
			if err := c.sendReliable(name, inst, addr, f); err != nil {
				c.logger.Debug("answer for a record", "member", name, "addr", addr.String(), "err", err)
				return
			}
		}
	})
	return nil
}

// sendReliable sends one frame over a stream.
func (c *Cluster) sendReliable(name string, inst Instance, addr netip.AddrPort, frame []byte) error {
	return c.ml.SendReliable(&memberlist.Node{
		Name: nodeName(name, inst), Addr: addr.Addr().AsSlice(), Port: addr.Port(),
	}, frame)
}
