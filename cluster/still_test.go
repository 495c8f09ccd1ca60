package cluster

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/watch"
)

// stillSelf is the instance of a still cluster.
const stillSelf = Instance(7) << instanceRandomBits

// still returns a cluster without a network in which nothing runs: its table, and
// what decodes for it and publishes. The test takes the place of its owner: see
// settle and owned.
func still(tb testing.TB) *Cluster {
	tb.Helper()
	c := &Cluster{
		cfg: Config{Name: "self", Version: "1.2.3"}.withDefaults(), started: time.Now().Add(-time.Hour),
		inputs: make(chan input, inputQueue), closing: make(chan struct{}), leaving: make(chan struct{}),
		answers: make(chan struct{}), // no slot: nobody is answered
		seeds:   newSeedList(nil),
		nodes:   nodes{in: map[Instance]struct{}{}}, pulses: map[core.ID]*pulse{},
		table:    map[Instance]Member{},
		refusals: map[string]string{}, contacting: map[netip.AddrPort]struct{}{},
	}
	for i := range maxContacts { // no room: nobody is dialled
		c.contacting[stillAddr(1<<20+i)] = struct{}{}
	}
	c.cond = sync.NewCond(&c.mu)
	c.logger = c.cfg.Logger
	c.broadcasts = &memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: func() int { return len(c.View().Members) }}
	c.out = newOutbox(c.broadcasts)
	idle := watch.New(watch.Config{})
	idle.Close() // it dials nobody
	c.session.Store(&session{instance: stillSelf, addr: netip.MustParseAddrPort("10.0.0.7:7946"), watch: idle})
	var err error
	if c.keys, err = c.newKeyring(); err != nil {
		tb.Fatal(err)
	}
	c.core = core.New(core.Config{
		Self: core.Rec{
			ID: core.ID(stillSelf), Name: c.cfg.Name, Addr: c.advertised(), Version: c.cfg.Version,
			WireMin: wireMin, WireMax: wireMax,
		},
		Body: []byte("{}"), Data: record{}, ForgetAfter: c.cfg.ForgetAfter, Seed: uint64(stillSelf),
	}, c.now())
	c.carryOut(c.core.First())
	c.publish()
	return c
}

// settle does what waits for the owner, and publishes.
func (c *Cluster) settle() {
	for {
		select {
		case in := <-c.inputs:
			c.take(in)
			continue
		default:
		}
		break
	}
	c.published, c.publishAt = 0, nil
	c.publish()
	c.out.empty()
}

// owned runs f while the test takes the owner's place.
func (c *Cluster) owned(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	for {
		select {
		case in := <-c.inputs:
			c.take(in)
		case <-done:
			c.settle()
			return
		}
	}
}

// empty drops what is to be sent.
func (o *outbox) empty() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.queue = nil
}

// stillAddr is the address of peer i, and stillID its instance.
func stillAddr(i int) netip.AddrPort {
	var ip [4]byte
	binary.BigEndian.PutUint32(ip[:], 10<<24|uint32(i)<<3|5)
	return netip.AddrPortFrom(netip.AddrFrom4(ip), 7946)
}

func stillID(i int) Instance { return Instance(1_700_000_000_000+i)<<instanceRandomBits | Instance(i) }

// stillRec is the record of peer i, alive.
func stillRec(i int) core.Rec {
	return core.Rec{
		ID: core.ID(stillID(i)), Name: fmt.Sprintf("host-%05d", i), Addr: stillAddr(i), Epoch: 1, State: core.Alive, Number: 1,
		Version: "1.2.3", WireMin: wireMin, WireMax: wireMax,
	}
}

// stillOf returns a still cluster of n.
func stillOf(tb testing.TB, n int) *Cluster {
	c := still(tb)
	c.learn(n)
	return c
}

// learn takes in what a join of a cluster of n members brings.
func (c *Cluster) learn(n int) {
	var all []core.Input
	recs := make([]core.Rec, 0, n-1)
	for i := 1; i < n; i++ {
		recs = append(recs, stillRec(i))
		all = append(all, core.Swim{Peer: core.ID(stillID(i)), Addr: stillAddr(i)})
	}
	if n > 1 {
		all = append(all, core.Table{From: recs[0].ID, Recs: recs})
	}
	c.take(input{many: all})
	c.settle()
	c.queue = nil
}
