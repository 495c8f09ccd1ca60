package cluster

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/peerhq/peer/cluster/internal/core"
	"github.com/peerhq/peer/cluster/internal/keys"
	"github.com/peerhq/peer/cluster/internal/port"
	"github.com/peerhq/peer/cluster/internal/watch"
)

// A peer is an instance at an address, and to memberlist and the watch streams
// neither changes. So when the address of this host changes, the peer begins a
// session as a new instance, which names the one before as its predecessor and
// takes its place everywhere.

const (
	// addressEvery is how often the host's addresses are compared: microseconds, as
	// long as they stay.
	addressEvery = 3 * time.Second
	// greetings is with how many members a new session exchanges tables at once.
	greetings = 3
)

// session is who this peer is for now.
type session struct {
	instance Instance
	addr     netip.AddrPort // where others reach it
	ml       *memberlist.Memberlist
	watch    *watch.Watcher
}

func (c *Cluster) advertised() netip.AddrPort { return c.session.Load().addr }
func (c *Cluster) instance() Instance         { return c.session.Load().instance }

// begin makes a session and takes it. Before it, nothing of the one before it may
// run.
func (c *Cluster) begin(inst Instance, addr netip.AddrPort) error {
	s := &session{instance: inst, addr: addr}
	s.watch = watch.New(watch.Config{
		Self: uint64(inst), Label: c.cfg.Label, Keys: c.keys.Secrets, Versions: [2]byte{wireMin, wireMax},
		Dial: c.cfg.Network.Dial, Know: c.knows, On: c.evidence, Logger: c.logger.Named("watch"),
	})
	c.session.Store(s)
	d := delegate{c}
	m := memberlist.DefaultLANConfig() // LAN timing: the verdict stays as sure as it is
	m.Name = nodeName(c.cfg.Name, inst)
	m.Label = c.cfg.Label
	m.Transport = lastingPort{c.port}
	m.BindAddr, m.BindPort = addr.Addr().String(), int(addr.Port())
	m.AdvertiseAddr, m.AdvertisePort = m.BindAddr, m.BindPort
	m.PushPullInterval = 0      // tables are exchanged when they differ
	m.EnableCompression = false // LZW costs 78 KB of garbage a packet and our packets are small
	m.Delegate, m.Events, m.Alive, m.Ping = d, d, d, d
	m.Logger = c.port.Logger()
	m.UDPBufferSize -= keys.Overhead // encryption is the port's
	ml, err := memberlist.Create(m)
	if err != nil {
		s.watch.Close()
		return fmt.Errorf("start gossip: %w", err)
	}
	c.session.Store(&session{instance: inst, addr: addr, ml: ml, watch: s.watch})
	return nil
}

// lastingPort is the port as one of several memberlists in turn has it: it outlives
// each of them.
type lastingPort struct{ *port.Port }

func (lastingPort) Shutdown() error { return nil }

// end ends the last session, and the port.
func (c *Cluster) end() error {
	s := c.session.Load()
	err := s.ml.Shutdown()
	s.watch.Close()
	if e := c.port.Shutdown(); err == nil {
		err = e
	}
	return err
}

// followAddress begins a new session when this host's address has changed, until
// the cluster is closed or leaves.
func (c *Cluster) followAddress() {
	t := time.NewTicker(addressEvery)
	defer t.Stop()
	for {
		select {
		case <-c.closing:
			return
		case <-c.leaving:
			return
		case <-t.C:
		}
		choice, changed, err := c.chooser.Again(c.port.Context())
		if err != nil {
			c.logger.Debug("look for the address to advertise", "err", err)
			continue
		}
		if !changed {
			continue
		}
		c.unwarn("advertise")
		if choice.Warning != "" {
			c.warn("advertise", choice.Warning, adviseAdvertise)
		}
		if err := c.move(choice.Addr); err != nil {
			c.logger.Error("take a new address", "addr", choice.Addr.String(), "err", err, "fix", "restart this agent")
			return
		}
	}
}

// move takes a new address.
func (c *Cluster) move(ip netip.Addr) error {
	c.moving.Lock()
	defer c.moving.Unlock()
	if c.isLeaving() {
		return nil
	}
	old := c.session.Load()
	addr := netip.AddrPortFrom(ip, old.addr.Port())
	inst, err := newInstance(c.cfg.Now(), old.instance, c.cfg.Rand)
	if err != nil {
		return err
	}
	c.logger.Warn("the address of this host has changed, taking the new one", "addr", addr.String(), "old", old.addr.String())
	if err := old.ml.Shutdown(); err != nil {
		c.logger.Debug("end the session at the old address", "err", err)
	}
	old.watch.Close()
	if err := c.begin(inst, addr); err != nil {
		return err
	}
	var to []netip.AddrPort
	c.ask(func(k *core.Core) {
		c.carryOut(k.Step(c.now(), core.Move{ID: core.ID(inst), Addr: addr}))
		c.publish()
	})
	for _, m := range c.View().Members {
		if !m.Self && m.State == Alive {
			to = append(to, m.Addr)
		}
	}
	rand.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
	for _, a := range to[:min(len(to), greetings)] {
		c.contactLater(a)
	}
	c.seeds.kick()
	return nil
}

const adviseAdvertise = "give --advertise the address at which others reach this host"
