package keys

import (
	"net/netip"
	"time"
)

// A member that was absent when the key changed comes back with the old one. It
// is let in for a while, and whoever hears from it hands it the new key.

const (
	handoffEvery = 5 * time.Second // to one member
	maxHandoffs  = 10_000          // remembered at a time; forged sources must not fill the memory
)

// source is where a message in an old key came from. Either half may be zero.
type source struct {
	addr     netip.AddrPort
	instance uint64
}

// Stale is called for each message in a key that is being replaced, named by its
// fingerprint: from is the address it came from, instance the member's that
// sent it, and either may be zero. It does not block.
func (r *Keyring) Stale(fingerprint string, from netip.AddrPort, instance uint64) {
	s := source{from, instance}
	if !r.claim(s) {
		return
	}
	r.spawn(func() {
		// The first message of a newcomer is handed on only after this call.
		for range 3 {
			if m, ok := r.whose(s); ok {
				r.handOff(m, fingerprint)
				return
			}
			if !r.sleep(resendAfter / 10) {
				return
			}
		}
		r.unclaim(s)
	})
}

// whose returns the member that a message came from.
func (r *Keyring) whose(s source) (Member, bool) {
	if s.instance != 0 {
		return r.cfg.Members.Instance(s.instance)
	}
	return r.cfg.Members.At(s.addr)
}

// handOff sends m the key in force, in the old one of this fingerprint.
func (r *Keyring) handOff(m Member, fingerprint string) {
	set := r.set.Load()
	i := set.find(fingerprint)
	if i < 0 || !set.keys[i].Old() {
		return
	}
	by := set.keys[i].Key
	left := max(0, set.keys[i].until.Sub(r.cfg.Now()))
	cmd := command{
		from: r.cfg.Members.Self().Instance, epoch: set.epoch, op: opRotate, key: set.keys[0].raw, grace: uint32(left / time.Second),
	}
	if err := r.cfg.Members.Send(r.life, m, r.signFrame(by, cmd.encode()), by); err != nil {
		r.cfg.Logger.Debug("hand over the new gossip key", "member", m.Name, "addr", m.Addr.String(), "err", err)
		return
	}
	r.cfg.Logger.Info("handed the new gossip key to a member that came with the old one", "member", m.Name, "addr", m.Addr.String(), "key", set.keys[0].fingerprint)
}

// claim says whether s has not been claimed a moment ago, and claims it.
func (r *Keyring) claim(s source) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if at, ok := r.handoffs[s]; ok && now.Sub(at) < handoffEvery {
		return false
	}
	if len(r.handoffs) > maxHandoffs {
		clear(r.handoffs)
	}
	r.handoffs[s] = now
	return true
}

func (r *Keyring) unclaim(s source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.handoffs, s)
}
