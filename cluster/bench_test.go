package cluster

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/core"
)

func perSize(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			f(b, n)
		})
	}
}

// BenchmarkOneEvent is one announcement to the View that shows it, with a View of
// its own each time. A large cluster puts several into one: see publishGap.
func BenchmarkOneEvent(b *testing.B) { benchEvents(b, 1) }

// BenchmarkEvents is one announcement of 50 that one View shows.
func BenchmarkEvents(b *testing.B) { benchEvents(b, 50) }

func benchEvents(b *testing.B, together int) {
	perSize(b, func(b *testing.B, n int) {
		c := stillOf(b, n)
		recs := make([]core.Rec, together)
		for i := range recs {
			recs[i] = stillRec(1 + i*(n-1)/together)
		}
		k := 0
		for b.Loop() {
			rec := &recs[k%together]
			if rec.State == core.Alive {
				rec.State, rec.Cause = core.Failed, core.Crashed
			} else {
				rec.Epoch, rec.State, rec.Cause = rec.Epoch+1, core.Alive, core.NoCause
			}
			c.take(input{in: core.News{From: rec.ID, Recs: []core.Rec{*rec}}})
			if k++; k%together == 0 {
				c.settle()
				c.queue = c.queue[:0]
			}
		}
		if v := c.View(); len(v.Members) != n {
			b.Fatalf("%d members, want %d", len(v.Members), n)
		}
	})
}

// BenchmarkOneJoin is one member more, and one that left and is forgotten.
func BenchmarkOneJoin(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c := stillOf(b, n)
		for b.Loop() {
			rec := stillRec(n)
			c.step(core.News{From: rec.ID, Recs: []core.Rec{rec}})
			c.settle()
			n++
			c.queue = c.queue[:0]
		}
	})
}

// BenchmarkLearn is a join of a cluster of n members, through memberlist's
// callbacks and the frames of a push/pull, each member with tags.
func BenchmarkLearn(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		nodes, state := joined(n)
		var before, after runtime.MemStats
		var c *Cluster
		var kept, peak uint64
		for b.Loop() {
			c = nil
			runtime.GC()
			runtime.ReadMemStats(&before)
			c = still(b)
			d := delegate{c}
			c.owned(func() {
				for _, node := range nodes {
					if err := d.NotifyAlive(node); err != nil {
						b.Error(err)
					}
					d.NotifyJoin(node)
				}
				d.MergeRemoteState(state, true)
			})
			if got := len(c.View().Members); got != n {
				b.Fatalf("%d members, want %d", got, n)
			}
			runtime.ReadMemStats(&after)
			peak = after.HeapAlloc - before.HeapAlloc
			c.queue = nil
			runtime.GC()
			runtime.ReadMemStats(&after)
			kept = after.HeapAlloc - before.HeapAlloc
		}
		b.ReportMetric(float64(kept)/float64(n), "B/member")
		b.ReportMetric(float64(peak)/1e6, "MB-at-once")
		runtime.KeepAlive(c)
	})
}

// joined returns what memberlist and the other half of a push/pull tell of n-1
// others.
func joined(n int) (nodes []*memberlist.Node, state []byte) {
	recs := make([]core.Rec, 0, n)
	for i := 1; i < n; i++ {
		rec := stillRec(i)
		recs = append(recs, rec)
		nodes = append(nodes, &memberlist.Node{
			Name: nodeName(rec.Name, Instance(rec.ID)), Addr: rec.Addr.Addr().AsSlice(), Port: rec.Addr.Port(), Meta: appendMeta(nil),
			PMin: memberlist.ProtocolVersionMin, PMax: memberlist.ProtocolVersionMax, PCur: memberlist.ProtocolVersion2Compatible,
		})
	}
	state = appendFrame(nil, core.AppendRecs(nil, core.FrameTable, recs[0].ID, recs))
	size := 0
	for _, rec := range recs {
		body := []byte(`{"tags":{"zone":"a"}}`)
		if size += len(body); size <= stateRecords {
			state = appendFrame(state, recordFrame(rec.ID, 1, body))
		}
	}
	return nodes, state
}

// BenchmarkDigest is the heartbeats that come with one ack.
func BenchmarkDigest(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c := stillOf(b, n)
		var beats []core.Beat
		for i := 1; i < n && len(beats) < 64; i++ {
			beats = append(beats, core.Beat{Peer: core.ID(stillID(i))})
		}
		for b.Loop() {
			for i := range beats {
				beats[i].Count++
			}
			c.step(core.Ack{Peer: core.ID(stillID(1)), Hash: c.core.Hash(), Beats: beats})
			c.settle()
		}
	})
}

// BenchmarkAck is the answer to one ping.
func BenchmarkAck(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c := stillOf(b, n)
		d := delegate{c}
		for b.Loop() {
			d.AckPayload()
		}
	})
}

// BenchmarkLocalState is this peer's half of a push/pull.
func BenchmarkLocalState(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c := stillOf(b, n)
		for b.Loop() {
			c.owned(func() { c.localState() })
		}
	})
}

// BenchmarkMergeEqual is a push/pull with one whose table is the same.
func BenchmarkMergeEqual(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		_, state := joined(n)
		c := still(b)
		c.mergeState(state)
		c.settle()
		for b.Loop() {
			c.mergeState(state)
			c.settle()
		}
	})
}
