package core

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"
)

const firstID ID = 1_000

// recOf returns the record of instance i: alive, with a name and an address of
// its own.
func recOf(i int) Rec {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 10<<24|uint32(i))
	return Rec{
		ID: firstID + ID(i), Name: fmt.Sprintf("host-%05d", i), Epoch: 1, State: Alive, Number: 1,
		Addr: netip.AddrPortFrom(netip.AddrFrom4(ip), 7000), Version: "v1.2.3", WireMin: 1, WireMax: 1,
	}
}

// tableOf returns the records of n instances, from 0 on.
func tableOf(n int) []Rec {
	recs := make([]Rec, n)
	for i := range recs {
		recs[i] = recOf(i)
	}
	return recs
}

// coreOf returns the core of instance 0 in a cluster of n, with all streams open
// and all heard at now.
func coreOf(n int) (*Core, []Link, time.Duration) {
	const now = time.Hour
	c := New(Config{Self: recOf(0), ForgetAfter: 72 * time.Hour, Seed: 1}, now)
	c.Step(now, Table{From: recOf(1).ID, Recs: tableOf(n)})
	for i := 1; i < n; i++ {
		c.Step(now, Record{Peer: recOf(i).ID, Number: 1, Body: []byte("tags")})
	}
	var links []Link
	for _, r := range c.partners {
		links = append(links, Link{Peer: r.ID, Heard: now, Out: true})
		c.Step(now, Up{Peer: r.ID, Out: true})
	}
	c.Step(now, Tick{Links: links})
	return c, links, now
}

var sizes = []int{100, 1_000, 10_000}

func perSize(b *testing.B, f func(b *testing.B, n int)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("members=%d", n), func(b *testing.B) {
			b.ReportAllocs()
			f(b, n)
		})
	}
}

func BenchmarkHeard(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, links, now := coreOf(n)
		for b.Loop() {
			now += time.Microsecond
			c.Step(now, Heard{Peer: links[0].Peer})
		}
	})
}

// idle advances the core by one tick in which all partners were heard.
func idle(c *Core, links []Link, now time.Duration) time.Duration {
	now += TickEvery
	for i := range links {
		links[i].Heard = now
	}
	c.Step(now, Tick{Links: links})
	return now
}

func BenchmarkIdleTick(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, links, now := coreOf(n)
		c.contacts.acked = 1 << 60 // pings are answered all the time
		for b.Loop() {
			now = idle(c, links, now)
		}
	})
}

// BenchmarkTickBesideGone is a tick while 150 members are failed and looked for.
func BenchmarkTickBesideGone(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		for i := range min(150, n/2) {
			rec := recOf(n - 1 - i)
			rec.State, rec.Cause = Failed, Crashed
			c.Step(now, News{From: recOf(1).ID, Recs: []Rec{rec}})
		}
		var links []Link
		for _, r := range c.partners {
			links = append(links, Link{Peer: r.ID, Out: true})
		}
		c.contacts.acked = 1 << 60
		for b.Loop() {
			now = idle(c, links, now)
		}
	})
}

func BenchmarkVote(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		about := c.partners[0]
		from := c.partnersOf(nil, about)[0]
		if from == c.self {
			from = c.partnersOf(nil, about)[1]
		}
		seq := uint64(0)
		for b.Loop() {
			seq++
			now += time.Microsecond
			c.Step(now, VoteIn{Vote{About: about.ID, From: from.ID, Epoch: 1, Seq: seq, Says: Silent}})
		}
	})
}

// BenchmarkDeathAndReturn is a partner that crashes, is declared failed by this
// peer and one other, and comes back with its next epoch: six inputs.
func BenchmarkDeathAndReturn(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		about := c.partners[0]
		var voters []ID
		for _, p := range c.partnersOf(nil, about) {
			if p != c.self {
				voters = append(voters, p.ID)
			}
		}
		seq := uint64(0)
		for b.Loop() {
			now += time.Second
			c.Step(now, Broke{Peer: about.ID})
			c.Step(now, Dialled{Peer: about.ID, Result: Refused})
			for _, v := range voters[:3] {
				seq++
				c.Step(now, VoteIn{Vote{About: about.ID, From: v, Epoch: about.Epoch, Seq: seq, Says: Refuses}})
			}
			if about.State != Failed {
				b.Fatalf("state %v, want failed", about.State)
			}
			rec := c.export(about)
			rec.Epoch, rec.State, rec.Cause = rec.Epoch+1, Alive, NoCause
			c.Step(now, News{From: about.ID, Recs: []Rec{rec}})
			c.Step(now, Up{Peer: about.ID, Out: true})
		}
	})
}

// BenchmarkFarDeathAndReturn is the same for a member that others watch: two
// announcements.
func BenchmarkFarDeathAndReturn(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		r := c.byID[n/2]
		for r.watch != nil || r == c.self {
			r = c.byID[(int(r.ID-firstID)+1)%n]
		}
		recs := []Rec{c.export(r)}
		for b.Loop() {
			now += time.Second
			recs[0].State, recs[0].Cause = Failed, Crashed
			c.Step(now, News{From: recOf(1).ID, Recs: recs})
			recs[0].Epoch++
			recs[0].State, recs[0].Cause = Alive, NoCause
			c.Step(now, News{From: r.ID, Recs: recs})
		}
	})
}

func BenchmarkLearn(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		recs := tableOf(n)
		for b.Loop() {
			c := New(Config{Self: recOf(0), ForgetAfter: 72 * time.Hour, Seed: 1}, time.Hour)
			c.Step(time.Hour, Table{From: recOf(1).ID, Recs: recs})
		}
	})
}

func BenchmarkMergeEqual(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		recs := c.Table(nil)
		for b.Loop() {
			c.Step(now, Table{From: recOf(1).ID, Recs: recs})
		}
	})
}

func BenchmarkTable(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, _ := coreOf(n)
		var recs []Rec
		for b.Loop() {
			recs = c.Table(recs[:0])
		}
	})
}

func BenchmarkShown(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, _ := coreOf(n)
		for b.Loop() {
			c.Shown(firstID)
		}
	})
}

// BenchmarkOwnOutage is this peer that reads that it is suspect, and contradicts.
func BenchmarkOwnOutage(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		c, _, now := coreOf(n)
		for b.Loop() {
			now += relapseWithin
			rec := c.export(c.self)
			rec.State, rec.Cause = Suspect, Overdue
			c.Step(now, News{From: recOf(1).ID, Recs: []Rec{rec}})
		}
	})
}

// BenchmarkRow reports what a row costs.
func BenchmarkRow(b *testing.B) {
	perSize(b, func(b *testing.B, n int) {
		recs := tableOf(n)
		var before, after runtime.MemStats
		var c *Core
		for b.Loop() {
			c = nil
			runtime.GC()
			runtime.ReadMemStats(&before)
			c = New(Config{Self: recOf(0), ForgetAfter: 72 * time.Hour, Seed: 1}, time.Hour)
			c.Step(time.Hour, Table{From: recOf(1).ID, Recs: recs})
			runtime.GC()
			runtime.ReadMemStats(&after)
		}
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(n), "B/row")
		runtime.KeepAlive(c)
	})
}
