package core

import (
	"strings"
)

// named returns the rows of a name.
func (c *Core) named(name string) []*row {
	var out []*row
	for r := c.names[strings.ToLower(name)]; r != nil; r = r.nextName {
		if r.Name == name {
			out = append(out, r)
		}
	}
	return out
}

// settle brings names and what is shown in line with all that changed in a Step.
// It looks at whole sets: the order in which their records came plays no part.
func (c *Core) settle() {
	for i := 0; i < len(c.touched); i++ { // replacing one may touch more
		r := c.touched[i]
		if c.rows[r.ID] != r {
			continue
		}
		c.settleAddr(r)
		c.settleName(r.Name)
		c.show(r)
	}
	c.touched = c.touched[:0]
}

// replaces says whether r takes the place of o.
func (r *row) replaces(o *row) bool {
	if r.State >= Forgotten || o == r || o.Prev == r.ID {
		return false
	}
	return r.Prev == o.ID || r.Addr == o.Addr && r.ID > o.ID
}

// settleAddr ends the instances whose port or name has a new owner.
func (c *Core) settleAddr(r *row) {
	for o := c.addrs[r.Addr]; o != nil; o = o.nextAddr { // replacing one moves no address
		if r.replaces(o) {
			c.replace(o)
		} else if o.replaces(r) {
			c.replace(r)
		}
	}
	if o := c.rows[r.Prev]; o != nil && r.replaces(o) {
		c.replace(o)
	}
	for _, o := range c.heirs[r.ID] {
		if o.replaces(r) {
			c.replace(r)
			break
		}
	}
}

func (c *Core) replace(o *row) {
	if o.State >= Forgotten {
		return
	}
	if o == c.self {
		rec := o.Rec
		rec.State = Replaced
		c.told(&rec, 0)
		return
	}
	c.edit(o, func() { o.State, o.Cause = Replaced, NoCause })
	c.send([]ID{o.ID}, News{From: c.self.ID, Recs: []Rec{c.export(o)}}) // should it live after all, it says so
}

// settleName settles who of a name is eligible, and who is not worth showing.
func (c *Core) settleName(name string) {
	var first *row // the earliest that is alive
	var last ID    // the latest that is remembered
	live := 0
	rows := c.named(name)
	for _, r := range rows {
		if r.State <= Left {
			last = max(last, r.ID)
		}
		if r.State == Alive {
			live++
			if first == nil || r.ID < first.ID {
				first = r
			}
		}
	}
	for _, r := range rows {
		hidden := (live > 0 || r.ID != last) && (r.State == Failed || r.State == Left) && r != c.self
		conflict := live > 1 && r.State == Alive
		shadowed := conflict && r != first
		news := r.conflict != conflict || r.shadowed != shadowed
		if conflict && !r.conflict {
			c.log(LogWarn, "two live peers have one name: rename one of them", "member", r.Name, "addr", r.Addr)
		}
		r.hidden, r.conflict, r.shadowed = hidden, conflict, shadowed
		shown := r.shown
		c.show(r)
		if news && shown && r.shown {
			c.updated(r)
		}
	}
}

// warnCase warns of a new member whose name differs from another's in case only.
func (c *Core) warnCase(r *row) {
	for o := r.nextName; o != nil; o = o.nextName { // the earlier rows
		if o.Name != r.Name && !o.State.gone() {
			c.log(LogWarn, "two peers have names that differ in case only: rename one of them", "member", r.Name, "other", o.Name)
		}
	}
}
