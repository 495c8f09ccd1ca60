package cluster

import (
	"crypto/hmac"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// staleKey is called by the transport for each message in an old key: whoever
// sent it was absent when the key changed, and is given the new one. Either of
// from and inst may be zero.
func (c *Cluster) staleKey(by *sealer, from netip.AddrPort, inst Instance) {
	g := gift{from, inst}
	if !c.gifts.claim(g) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spawn(func() {
		// The first message of a newcomer is handed on only after this call.
		for range 3 {
			if m, ok := c.whose(g); ok {
				c.give(m, by)
				return
			}
			if !c.sleep(keyResend / 10) {
				return
			}
		}
		c.gifts.giveUp(g)
	})
}

// whose returns the member that sent what g was claimed for.
func (c *Cluster) whose(g gift) (m Member, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.rows {
		if r != c.self && !r.ghost && (r.m.Instance == g.inst || r.m.Addr == g.addr) && r.m.Instance > m.Instance {
			m, ok = r.m, true
		}
	}
	return m, ok
}

// give sends m the key in force, in the old one.
func (c *Cluster) give(m Member, by *sealer) {
	set := c.keys.load()
	i := set.find(by.print)
	if i <= 0 || !set.keys[i].old() {
		return
	}
	left := max(0, set.keys[i].until.Sub(c.cfg.Now()))
	cmd := keyCommand{
		from: c.self.m.Instance, epoch: set.epoch, op: opRotate, key: set.keys[0].key, grace: uint32(left / time.Second),
	}
	if err := c.sendSealed(c.trans.life, m.Addr, c.signKeys(by, cmd.encode()), by); err != nil {
		c.logger.Debug("give the new gossip key", "member", m.Name, "addr", m.Addr.String(), "err", err)
		return
	}
	c.logger.Info("gave the new gossip key to who came with the old one", "member", m.Name, "addr", m.Addr.String(), "key", set.keys[0].print)
}

// gift is somebody who is given the new key.
type gift struct {
	addr netip.AddrPort
	inst Instance
}

// gifts bounds how often each is given it.
type gifts struct {
	mu sync.Mutex
	at map[gift]time.Time
}

// claim says whether g has not been claimed a moment ago, and claims it.
func (s *gifts) claim(g gift) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if at, ok := s.at[g]; ok && now.Sub(at) < keyGift {
		return false
	}
	if s.at == nil || len(s.at) > maxMembers {
		s.at = map[gift]time.Time{}
	}
	s.at[g] = now
	return true
}

func (s *gifts) giveUp(g gift) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.at, g)
}

// signKeys appends a MAC to a frame about keys.
func (c *Cluster) signKeys(by *sealer, frame []byte) []byte {
	return append(frame, c.mac(by.key, "keys", frame)...)
}

// verifyKeys takes the MAC off a frame about keys, and returns the key that made
// it.
func (c *Cluster) verifyKeys(b []byte) (body []byte, by heldKey, err error) {
	if len(b) < 1+macSize {
		return nil, heldKey{}, fmt.Errorf("%w: keys", errWire)
	}
	frame, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	for _, k := range c.keys.load().keys {
		if hmac.Equal(mac, c.mac(k.key, "keys", frame)) {
			return frame[1:], k, nil
		}
	}
	return nil, heldKey{}, errOldKey
}
