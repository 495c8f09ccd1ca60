package consul

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// maxKnown is how many different answers are known by their index. One that was
// forgotten gets that of its source, which may have moved for another reason: a
// client is then woken once for nothing.
const maxKnown = 4096

// An indexer gives answers their index: the same one as long as the answer is the
// same.
type indexer struct {
	mu    sync.Mutex
	known map[string]*list.Element // of *indexed
	used  list.List                // the latest first
}

type indexed struct {
	key    string
	sum    [sha256.Size]byte // of the answer
	index  uint64
	source uint64 // index of the source when the answer was last seen
}

// of returns the index of the answer to key, given a source at an index. It
// returns false when a later state of the source has been seen: read again.
func (x *indexer) of(key string, answer []byte, source uint64) (uint64, bool) {
	sum := sha256.Sum256(answer)
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.known == nil {
		x.known = map[string]*list.Element{}
	}
	e := x.known[key]
	if e == nil {
		x.known[key] = x.used.PushFront(&indexed{key, sum, source, source})
		if x.used.Len() > maxKnown {
			last := x.used.Back()
			delete(x.known, last.Value.(*indexed).key)
			x.used.Remove(last)
		}
		return source, true
	}
	x.used.MoveToFront(e)
	k := e.Value.(*indexed)
	if source < k.source {
		return 0, false
	}
	k.source = source
	if k.sum != sum {
		k.sum, k.index = sum, max(source, k.index+1)
	}
	return k.index, true
}
