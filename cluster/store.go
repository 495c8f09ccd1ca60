package cluster

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/peerhq/peer/cluster/internal/text"
)

const (
	storeFile     = "members.json"
	storeVersion  = 1
	maxStoreBytes = 8 << 20 // twice what maxRemembered peers need
	maxRemembered = 10_000
	keptBad       = 3 // damaged files that are set aside
)

// remembered is what a peer knows from one start to the next.
type remembered struct {
	Self  Instance // its last start, zero if there was none
	Peers []rememberedPeer
}

// rememberedPeer is a member that was seen once.
type rememberedPeer struct {
	Name     string
	Instance Instance
	Addr     netip.AddrPort
	State    State
	LastSeen time.Time // by this peer's clock
}

// store keeps what a peer remembers, in one file of its data dir. A file that
// can not be trusted is set aside, not overwritten and not a reason to stop:
// a peer without a memory still has its seeds.
type store struct {
	fs   FS
	path string // empty: keeps nothing

	mu     sync.Mutex
	intact bool // what lies at path may be replaced
}

// openStore returns the store in dir and what it holds, nothing on a first
// start. With dir "" it keeps nothing. What is wrong with the file or the
// directory comes back as a warning that says what to do, and the peer runs
// on; only a dir that can never become one is an error.
func openStore(fsys FS, dir string) (s *store, r remembered, warning string, err error) {
	s = &store{fs: fsys, intact: true}
	if dir == "" {
		return s, remembered{}, "", nil
	}
	s.path = filepath.Join(dir, storeFile)
	if err := fsys.MkdirAll(dir); errors.Is(err, syscall.ENOTDIR) {
		return nil, remembered{}, "", fmt.Errorf("open data dir %s: it is, or lies below, a file: name a directory", dir)
	} else if err != nil {
		return s, remembered{}, s.unwritable(err), nil
	}

	var warnings []string
	data, err := fsys.ReadFile(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		warnings = append(warnings, s.setAside(fmt.Errorf("cannot be read: %w", err)))
	default:
		var skipped int
		if r, skipped, err = decodeStore(data, storeVersion); err != nil {
			warnings = append(warnings, s.setAside(err))
		} else if skipped > 0 {
			warnings = append(warnings, fmt.Sprintf("%s: %d entries make no sense and are forgotten: nothing to do if their members are seen again", s.path, skipped))
		}
	}
	// Written back at once, so that a directory that takes nothing is known
	// now and not at the next outage.
	if s.intact {
		if err := s.save(r); err != nil {
			warnings = append(warnings, s.unwritable(err))
		}
	}
	return s, r, strings.Join(warnings, "; "), nil
}

// save replaces what the store holds. Of more than 10,000 peers it keeps those
// that were seen last, and it leaves out what openStore would not read. It
// blocks until the disk has it; call it from any goroutine but not from one
// that others wait for.
func (s *store) save(r remembered) error {
	if s.path == "" {
		return nil
	}
	data, err := encodeStore(r)
	if err != nil {
		return fmt.Errorf("save members: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.intact {
		if _, err := s.rotate(); err != nil {
			return fmt.Errorf("save members: set the damaged %s aside: %w", s.path, err)
		}
		s.intact = true
	}
	err = s.fs.WriteFile(s.path, data)
	if errors.Is(err, fs.ErrNotExist) { // the directory could not be made at the start, or was removed since
		if err = s.fs.MkdirAll(filepath.Dir(s.path)); err == nil {
			err = s.fs.WriteFile(s.path, data)
		}
	}
	if err != nil {
		return fmt.Errorf("save members: %w", err)
	}
	return nil
}

// taken returns an error when a peer that started after self has written here:
// it was given the same data dir, and two that take turns at writing would each
// remember half.
func (s *store) taken(self Instance) error {
	if s.path == "" {
		return nil
	}
	data, err := s.fs.ReadFile(s.path)
	if err != nil {
		return nil // save says what is wrong with it
	}
	if r, _, err := decodeStore(data, storeVersion); err == nil && r.Self > self {
		return fmt.Errorf("another peer that started later keeps its members in %s: give every peer a data dir of its own", filepath.Dir(s.path))
	}
	return nil
}

// setAside moves the file, which is of no use for why, out of the way and
// returns the warning about it.
func (s *store) setAside(why error) string {
	const lost = "this peer has forgotten whom it knew and finds the cluster by its seeds"
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, err := s.rotate()
	if err != nil {
		s.intact = false
		return fmt.Sprintf("%s %v: %s; it could not be set aside and nothing is saved until it is (%v): move it away, or make the directory writable", s.path, why, lost, err)
	}
	fix := "delete it when nobody needs it any more"
	if errors.Is(why, errNewer) {
		fix = "stop the peer, move it back and start the newer peer again, or delete it"
	}
	return fmt.Sprintf("%s %v: %s; it is kept as %s: %s", s.path, why, lost, kept, fix)
}

// rotate renames the file to the newest of the names for damaged ones and
// returns it. The caller holds s.mu.
func (s *store) rotate() (string, error) {
	name := func(i int) string {
		if i == 0 {
			return s.path + ".bad"
		}
		return fmt.Sprintf("%s.bad.%d", s.path, i)
	}
	for i := keptBad - 1; i > 0; i-- {
		if err := s.fs.Rename(name(i-1), name(i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	if err := s.fs.Rename(s.path, name(0)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return name(0), nil
}

// unwritable returns the warning about a directory that takes nothing.
func (s *store) unwritable(err error) string {
	dir := filepath.Dir(s.path)
	fix := "make it a directory that this process may write to, or set another with --data-dir"
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		fix = "free space on its file system"
	}
	return fmt.Sprintf("data dir %s: %v: after a full outage this peer finds the others by its seeds only: %s", dir, err, fix)
}

var (
	errDamaged = errors.New("is damaged")
	errNewer   = errors.New("was written by a newer peer")
)

// The file: a checksum over the payload as JSON without white space, so that
// it may be laid out for a reader. Fields are only ever added, and one that an
// older version did not write is zero.
type storeDoc struct {
	Version  int             `json:"version"`
	Checksum string          `json:"checksum"`
	Payload  json.RawMessage `json:"payload"`
}

type storePayload struct {
	Self  string      `json:"self,omitempty"`
	Peers []storePeer `json:"peers"`
}

type storePeer struct {
	Name     string    `json:"name"`
	Instance string    `json:"instance"`
	Addr     string    `json:"addr"`
	State    State     `json:"state,omitempty"`
	LastSeen time.Time `json:"last_seen,omitzero"`
}

// encodeStore writes r, one peer a line.
func encodeStore(r remembered) ([]byte, error) {
	peers := make([]rememberedPeer, 0, len(r.Peers))
	for _, p := range r.Peers {
		if validPeer(p) {
			peers = append(peers, p)
		}
	}
	if len(peers) > maxRemembered {
		slices.SortStableFunc(peers, func(a, b rememberedPeer) int { return b.LastSeen.Compare(a.LastSeen) })
		peers = peers[:maxRemembered]
	}
	slices.SortFunc(peers, func(a, b rememberedPeer) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Instance, b.Instance))
	})

	var b bytes.Buffer
	b.WriteString("{")
	if r.Self != 0 {
		fmt.Fprintf(&b, "\n    \"self\": \"%s\",", r.Self)
	}
	b.WriteString("\n    \"peers\": [")
	for i, p := range peers {
		line, err := json.Marshal(storePeer{
			Name:     p.Name,
			Instance: p.Instance.String(),
			Addr:     p.Addr.String(),
			State:    p.State,
			LastSeen: p.LastSeen.UTC().Truncate(time.Millisecond),
		})
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, "\n      %s", line)
	}
	b.WriteString("\n    ]\n  }")

	sum, err := storeSum(storeVersion, b.Bytes())
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "{\n  \"version\": %d,\n  \"checksum\": %q,\n  \"payload\": %s\n}\n", storeVersion, sum, b.Bytes()), nil
}

// decodeStore reads what encodeStore of version newest or an older one wrote.
// skipped counts the peers that were left out because no peer writes such.
func decodeStore(data []byte, newest int) (r remembered, skipped int, err error) {
	if len(data) > maxStoreBytes {
		return remembered{}, 0, fmt.Errorf("%w (%d bytes, %d is the most)", errDamaged, len(data), maxStoreBytes)
	}
	var doc storeDoc
	if err := json.Unmarshal(data, &doc); err != nil {
		return remembered{}, 0, fmt.Errorf("%w (%v)", errDamaged, err)
	}
	switch {
	case doc.Version > newest:
		return remembered{}, 0, fmt.Errorf("%w (version %d, this one reads up to %d)", errNewer, doc.Version, newest)
	case doc.Version < 1:
		return remembered{}, 0, fmt.Errorf("%w (no version)", errDamaged)
	}
	sum, err := storeSum(doc.Version, doc.Payload)
	if err != nil || sum != doc.Checksum {
		return remembered{}, 0, fmt.Errorf("%w (its checksum does not fit)", errDamaged)
	}
	var p storePayload
	if err := json.Unmarshal(doc.Payload, &p); err != nil {
		return remembered{}, 0, fmt.Errorf("%w (%v)", errDamaged, err)
	}
	if p.Self != "" {
		if r.Self, err = ParseInstance(p.Self); err != nil {
			return remembered{}, 0, fmt.Errorf("%w (%v)", errDamaged, err)
		}
	}
	for _, e := range p.Peers {
		q, ok := e.peer()
		if !ok || len(r.Peers) == maxRemembered {
			skipped++
			continue
		}
		r.Peers = append(r.Peers, q)
	}
	return r, skipped, nil
}

// peer returns e as a peer, and whether it is one.
func (e storePeer) peer() (rememberedPeer, bool) {
	inst, err := ParseInstance(e.Instance)
	if err != nil {
		return rememberedPeer{}, false
	}
	addr, err := netip.ParseAddrPort(e.Addr)
	if err != nil {
		return rememberedPeer{}, false
	}
	p := rememberedPeer{Name: e.Name, Instance: inst, Addr: addr, State: e.State, LastSeen: e.LastSeen.UTC()}
	switch p.State {
	case Alive, Suspect, Failed, Left:
	default:
		p.State = Failed // a state of another version: worth a redial all the same
	}
	return p, validPeer(p)
}

// validPeer says whether p is worth keeping.
func validPeer(p rememberedPeer) bool {
	ip := p.Addr.Addr()
	return validateName(p.Name) == nil && p.Instance != 0 &&
		p.Addr.IsValid() && p.Addr.Port() != 0 && !ip.IsUnspecified() && !ip.IsMulticast() &&
		text.Unprintable(ip.Zone()) < 0 && len(ip.Zone()) <= 64 &&
		p.LastSeen.Year() >= 0 && p.LastSeen.Year() <= 9999 // what JSON carries
}

// storeSum returns the sum of a payload and the version that it is read as,
// whatever the payload's white space.
func storeSum(version int, payload []byte) (string, error) {
	b := fmt.Appendf(nil, "peer members %d\n", version)
	buf := bytes.NewBuffer(b)
	if err := json.Compact(buf, payload); err != nil {
		return "", err
	}
	return fmt.Sprintf("xxh64:%016x", xxhash.Sum64(buf.Bytes())), nil
}
