// Package selector answers one question: whose turn is it? It hands out the
// peers of a set in turn, each as often as any other, while the set changes
// under it.
//
// It is generic over what a peer is and knows nothing of where peers come from:
// no gossip, no network, nothing beyond the standard library. Somebody who knows
// who is alive calls [Selector.Set]; everybody else calls [Selector.Next], or
// ranges over [Selector.All] to have a second and a third peer at hand when the
// first does not answer.
//
// # Keeping the place
//
// Going round a list is easy as long as the list stays as it is. When it
// changes, the usual ways lose their place: starting again at the front starves
// the back as soon as changes come faster than one rotation, a random new start
// makes some peers wait for many rotations, and a plain counter jumps when the
// length under it changes.
//
// Here the rotation is a queue of identities. A peer that stays keeps its place
// relative to all others that stay, and the next turn is the one that was next
// before. So the same set in another order changes nothing, and neither does
// another value with the same ID. A peer that joins is put anywhere between next
// and last, each place as likely as any other. Appended at the end it would
// never be reached if it came and went faster than a rotation; scattered, it
// gets its fair share whatever its rhythm.
//
// What follows is promised of [RoundRobin], and tested as a property:
//
//   - a peer that stays waits for at most N turns, plus one for each peer that
//     joins meanwhile;
//   - between any two peers that stay the numbers of turns differ by no more
//     than that wait explains: by one when nobody joins or leaves;
//   - a walk over All names each peer of one moment once.
//
// [Weighted] keeps its place likewise: each peer has marks on a circle, as far
// apart as its share is small, and they stay where they are whoever comes and
// goes.
//
// # Every client in another order
//
// If all clients went round in the same order, the peer behind a dead one would
// get the dead one's requests from all of them, twice its share. The order is
// therefore drawn from [Config].Seed, the client's own name: what one peer drops
// falls on all others alike.
//
// Keys are the exception. Under [ByKey] a key belongs to the same peer on every
// client, whatever happened before, and when a peer comes or goes no key moves
// but its own.
//
// # Who is fit
//
// Whoever sets the peers knows who is alive, within what gossip can tell. The
// caller knows more, and sooner: [Selector.Report] or [Turn.Done] tells that a
// request failed, and the peer cools down. So there are tiers, and nobody in a
// later one is handed out while there is somebody in an earlier: [Live], then
// [Cooling], then [LastResort], which is for peers that stand by. The selector
// never runs dry while it has peers at all: when everybody seems to fail, the
// fault is likely on this side, so no more than half cool down at a time, and
// when nobody else is left those that cool are handed out after all.
// [Selector.Take] and [Selector.Order] say which tier a peer came from, and
// [Selector.Explain] why.
//
// # Views
//
// [Selector.Where] gives the selector of those that match, [Selector.With] that
// of another policy. They share the peers and the reports and keep places of
// their own. Asked for again by the same name they are the same, so that both
// may stand in the path of a request:
//
//	s.Where("web", runsWeb).With(selector.LeastLoaded).Take(selector.Want{})
//
// # Many goroutines
//
// Picking never locks and never waits on the selector that New returned. Readers
// share an immutable rotation with one counter in it: a turn is one atomic
// addition. Set makes the next rotation aside and passes the turn on in one
// compare-and-swap, so that no turn is given twice and none is lost, however
// many goroutines are picking. Where so many do that they wait for one another's
// addition, a [Cursor] for each goroutine does without.
//
// The selectors that Where and With give are made anew by the first pick after a
// change; those that come meanwhile wait for it.
//
// Nothing runs in the background. Time passes when somebody picks: while a peer
// cools down or starts slowly, and only then, a pick looks at the clock too.
package selector
