package core

import (
	"net/netip"
	"slices"
)

// Self returns this peer's own instance.
func (c *Core) Self() ID { return c.self.ID }

// Joined says whether tables were exchanged with another peer.
func (c *Core) Joined() bool { return c.contacts.joined }

// Lookup returns the record of id, whether it is shown or not.
func (c *Core) Lookup(id ID) (Rec, bool) {
	r := c.rows[id]
	if r == nil {
		return Rec{}, false
	}
	return c.export(r), true
}

// Body returns the newest record of tags and services that is held of id, and its
// number: 0 if there is none.
func (c *Core) Body(id ID) (number uint64, body []byte) {
	if r := c.rows[id]; r != nil {
		return r.number, r.body
	}
	return 0, nil
}

// Memories returns what is to outlive a restart: every member but this one, and
// those of an earlier run that were not seen since. The absence of one that is not
// in rotation counts from when it left it.
func (c *Core) Memories() []Memory {
	out := c.contacts.unseen()
	for _, r := range c.byID {
		if r == c.self || !r.shown || r.shadowed {
			continue
		}
		m := Memory{ID: r.ID, Name: r.Name, Addr: r.Addr, Left: r.State == Left}
		if r.State.gone() {
			m.Absent = max(c.now-r.since, 0)
		}
		out = append(out, m)
	}
	return out
}

// Usable says whether addr can be that of another host: what strangers announce is
// checked by it.
func Usable(addr netip.AddrPort) bool { return usable(addr) }

// HearsAny says whether any partner is heard.
func (c *Core) HearsAny() bool {
	return slices.ContainsFunc(c.partners, c.hears)
}
