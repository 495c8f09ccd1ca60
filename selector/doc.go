// Package selector answers one question: whose turn is it? It hands out the
// peers of a set in turn, each as often as any other, while the set changes
// under it.
//
// It is generic over what a peer is and knows nothing of where peers come from:
// no gossip, no network, no clock of its own. Somebody who knows who is alive
// calls [Selector.Set]; everybody else calls [Selector.Next], or ranges over
// [Selector.All] to have a second and a third peer at hand when the first does
// not answer.
//
// # Keeping the place
//
// Going round a list is easy as long as the list stays as it is. When it
// changes, the usual ways lose their place: starting again at the front starves
// the back as soon as changes come faster than one rotation, a random new start
// makes some peers wait for many rotations, and a plain counter jumps when the
// length under it changes.
//
// Here the rotation is a queue of identities. A peer that stays, keeps its place
// relative to all others that stay, and the next turn is the one that was next
// before. So the same set in another order changes nothing, and neither does
// another value with the same ID. A peer that joins is put anywhere between next
// and last, each place as likely as any other. Appended at the end it would
// never be reached if it came and went faster than a rotation; scattered, it
// gets its fair share whatever its rhythm.
//
// What follows is promised, and tested as a property:
//
//   - a peer that stays waits for at most N turns, plus one for each peer that
//     joins meanwhile;
//   - between any two peers that stay the numbers of turns differ by no more
//     than that wait explains: by one when nobody joins or leaves;
//   - a walk over All names each peer of one moment once.
//
// # Every client in another order
//
// If all clients went round in the same order, the peer behind a dead one would
// get the dead one's requests from all of them, twice its share. The order is
// therefore drawn from [Config].Seed, the client's own name: what one peer drops
// falls on all others alike.
//
// # Many goroutines
//
// Readers never lock and never wait. They share an immutable rotation with one
// counter in it: a turn is one atomic addition. Set makes the next rotation
// aside and passes the turn on in one compare-and-swap, so that no turn is given
// twice and none is lost, however many goroutines are picking.
package selector
