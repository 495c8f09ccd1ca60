package core

import "net/netip"

// Move says that this peer goes on as another instance, at another address.
type Move struct {
	ID   ID
	Addr netip.AddrPort
}

func (Move) input() {}

// move makes a new instance of this peer, which replaces the one before.
func (c *Core) move(in Move) {
	old := c.self
	for len(c.partners) > 0 {
		c.unwatch(c.partners[0])
	}
	rec := old.Rec
	rec.ID, rec.Prev, rec.Addr = in.ID, old.ID, in.Addr
	rec.Epoch, rec.State, rec.Cause, rec.Level, rec.Age = 1, Alive, NoCause, 0, 0
	r := c.insert(rec)
	r.number, r.body, r.data = old.number, old.body, old.data
	c.self, c.own, c.cutOff = r, owner{}, false
	c.replace(old)
	c.announceSelf()
}
