package core

// Forgotten is a state as others are: whoever holds a record of the instance adopts
// it, and the instance undoes it by a higher epoch, if it lives after all.

// departed says whether an operator may forget r: what he is shown decides, for a
// peer that is cut off holds the lost ones for alive still.
func (r *row) departed() bool {
	return r.State == Failed || r.State == Left || r.shown && r.seen.gone()
}

// Departed says of a name whether it is known at all, and whether all its instances
// are gone.
func (c *Core) Departed(name string) (known, gone bool) {
	gone = true
	for _, r := range c.named(name) {
		if r.shown {
			known, gone = true, gone && r != c.self && r.departed()
		}
	}
	return known || c.contacts.remembers(name), gone
}

// forget drops the departed of a name, for everybody: also those that are only
// remembered from an earlier run, here or elsewhere.
func (c *Core) forget(name string) {
	for _, m := range c.contacts.memory {
		if m.Name == name && c.rows[m.ID] == nil {
			c.insert(Rec{ID: m.ID, Name: m.Name, Addr: m.Addr, Epoch: 1, State: Failed, Cause: Unreachable})
		}
	}
	for _, r := range c.named(name) {
		if r != c.self && r.departed() {
			c.announceWith(r, func() { c.edit(r, func() { r.State, r.Cause = Forgotten, NoCause }) })
		}
	}
	c.contacts.forget(name)
}
