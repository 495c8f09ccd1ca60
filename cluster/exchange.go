package cluster

import (
	"slices"
	"time"

	"github.com/peerhq/peer/cluster/internal/address"
	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/keys"
)

// What goes between this peer's core and others: frames, acks and whole tables.

const (
	broadcastRecord = 1000      // bytes; a larger record is fetched from its owner
	stateRecords    = 256 << 10 // bytes of records in one push/pull
	// ackEvery is how often the heartbeats that go along with an ack are read anew.
	ackEvery = time.Second
)

// address returns where to send what is for ids. The owner calls it.
func (c *Cluster) address(ids []core.ID) []destination {
	if len(ids) == 0 {
		return nil
	}
	out := make([]destination, 0, len(ids))
	for _, id := range ids {
		if rec, ok := c.core.Lookup(id); ok {
			out = append(out, destination{nodeName(rec.Name, Instance(id)), rec.Addr})
		}
	}
	return out
}

// encode makes a frame of m, nil if there is nothing to say. The owner calls it.
func (c *Cluster) encode(m core.Message) []byte {
	switch m := m.(type) {
	case core.Vote:
		return m.Append(nil)
	case core.News:
		return core.AppendRecs(nil, core.FrameNews, m.From, m.Recs)
	case core.Want:
		return m.Append(nil)
	case core.RecordOf:
		number, body := c.core.Body(m.Peer)
		if len(body) > broadcastRecord {
			return core.Number{Peer: m.Peer, Number: number}.Append(nil)
		}
		return recordFrame(m.Peer, number, body)
	}
	return nil
}

// owner names what gossip carries of m: a later one of the same takes its place.
func owner(m core.Message) string {
	switch m := m.(type) {
	case core.News:
		if len(m.Recs) > 0 {
			return "news " + Instance(m.Recs[0].ID).String()
		}
	case core.RecordOf:
		return "record " + Instance(m.Peer).String()
	}
	return ""
}

// readFrame takes a frame apart; b is ours to keep. It returns nil for what is
// not for the core.
func (c *Cluster) readFrame(b []byte) core.Input {
	if len(b) == 0 {
		return nil
	}
	var in core.Input
	var err error
	switch b[0] {
	case core.FrameVote:
		var v core.Vote
		v, err = core.ParseVote(b[1:])
		in = core.VoteIn{Vote: v}
	case core.FrameNews:
		var n core.News
		n, err = core.ParseNews(b[1:])
		n.Recs = c.sound(n.Recs)
		in = n
	case core.FrameTable:
		var t core.Table
		t, err = core.ParseTable(b[1:])
		t.Recs = c.sound(t.Recs)
		in = t
	case core.FrameNumber:
		in, err = core.ParseNumber(b[1:])
	case core.FrameWant:
		var w core.Want
		if w, err = core.ParseWant(b[1:]); err == nil {
			c.answerWant(w)
		}
	case frameRecord:
		in, err = parseRecord(b[1:])
	case frameBeats:
		var beats []core.Beat
		beats, err = parseBeats(b[1:])
		in = core.Beats{Beats: beats}
	case keys.FrameCommand, keys.FrameAnswer, keys.FrameProgress:
		err = c.keys.Take(b)
	default: // from a later version: not for us
	}
	if err != nil {
		c.logger.Debug("dropped malformed gossip", "err", err)
		return nil
	}
	return in
}

// sound leaves out the records that no honest peer sends, and those whose address
// is of no use here.
func (c *Cluster) sound(recs []core.Rec) []core.Rec {
	own := c.advertised()
	return slices.DeleteFunc(recs, func(r core.Rec) bool {
		if validateName(r.Name) != nil || r.WireMin > wireMax || r.WireMax < wireMin {
			return true
		}
		if err := address.Refuse(r.Addr, own); err != nil {
			c.refused(r.Name, err)
			return true
		}
		return false
	})
}

// refused tells once of a member whose address is of no use.
func (c *Cluster) refused(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refusals[name] == err.Error() || len(c.refusals) > 1000 {
		return
	}
	c.refusals[name] = err.Error()
	c.logger.Warn("a member announces an address that cannot be used", "member", name, "err", err)
}

// localState is what this peer tells in a push/pull: its table, records, its own
// first, and heartbeats.
func (c *Cluster) localState() []byte {
	var b []byte
	c.ask(func(k *core.Core) {
		recs := k.Table(nil)
		b = appendFrame(nil, core.AppendRecs(nil, core.FrameTable, k.Self(), recs))
		size := 0
		for _, r := range recs {
			if number, body := k.Body(r.ID); number > 0 && r.State < core.Failed && size+len(body) <= stateRecords {
				size += len(body)
				b = appendFrame(b, recordFrame(r.ID, number, body))
			}
		}
		b = appendFrame(b, appendBeats([]byte{frameBeats}, k.Digest(nil, c.now()), 0))
	})
	return b
}

// mergeState takes in the other half of a push/pull, all of it at once.
func (c *Cluster) mergeState(b []byte) {
	var all []core.Input
	for len(b) > 0 {
		frame, rest, err := cutFrame(b)
		if err != nil {
			c.logger.Debug("dropped malformed gossip", "err", err)
			break
		}
		if in := c.readFrame(frame); in != nil {
			all = append(all, in)
		}
		b = rest
	}
	if len(all) > 0 {
		c.submit(input{many: all})
	}
}

// publishAck makes the hash of the table and the heartbeats ready for the next
// ack. The owner calls it.
func (c *Cluster) publishAck() {
	old, now := c.ack.Load(), c.now()
	if old != nil && old.hash == c.core.Hash() && now-old.at < ackEvery {
		return
	}
	c.ack.Store(&ack{hash: c.core.Hash(), beats: c.core.Digest(nil, now), at: now})
}

// answerWant sends this peer's record to whoever asks for it, over a stream.
func (c *Cluster) answerWant(w core.Want) {
	select {
	case c.answers <- struct{}{}:
	default:
		return // busy: it asks again
	}
	if !c.spawn(func() {
		defer func() { <-c.answers }()
		var frame []byte
		var to []destination
		c.ask(func(k *core.Core) {
			if number, body := k.Body(w.Owner); number > 0 {
				frame, to = recordFrame(w.Owner, number, body), c.address([]core.ID{w.From})
			}
		})
		for _, d := range to {
			if err := c.session.Load().ml.SendReliable(d.node(), frame); err != nil {
				c.logger.Debug("answer for a record", "member", d.name, "addr", d.addr.String(), "err", err)
			}
		}
	}) {
		<-c.answers
	}
}
