package selector

import (
	"cmp"
	"maps"
	"slices"
)

// Where returns the selector of those peers of s that match, with a place of
// its own and the policy of s. The name stands for the filter: asked again with
// the same name, the same s gives the same selector, so it may be called for
// each request. The filter runs once a change of the peers, not once a pick; nil
// lets everybody through.
//
// The 256 selectors asked for last are kept; one that is dropped works on for
// whoever holds it.
func (s *Selector[T]) Where(name string, match func(T) bool) *Selector[T] {
	both, outer := match, s.match
	if match == nil {
		both = outer
	} else if outer != nil {
		both = func(p T) bool { return outer(p) && match(p) }
	}
	return s.roster.derive(s.name+"\x00where "+name, s.policy, both)
}

// With returns the selector of the peers of s under another policy, with a
// place of its own. Like Where it may be called for each request.
func (s *Selector[T]) With(p Policy) *Selector[T] {
	if p == s.policy {
		return s
	}
	return s.roster.derive(s.name+"\x00with "+p.String(), p, s.match)
}

// keep is how many derived selectors are remembered by name.
const keep = 256

// derive finds or makes the selector called name, and forgets the one that has
// not been asked for longest when there are too many.
func (x *roster[T]) derive(name string, p Policy, match func(T) bool) *Selector[T] {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.derived[name]
	if s == nil {
		if len(x.derived) >= keep {
			oldest := slices.MinFunc(slices.Collect(maps.Values(x.derived)), func(a, b *Selector[T]) int {
				return cmp.Compare(a.asked, b.asked)
			})
			delete(x.derived, oldest.name)
		}
		s = x.selector(name, p, match)
		x.derived[name] = s
	}
	x.asks++
	s.asked = x.asks
	return s
}
