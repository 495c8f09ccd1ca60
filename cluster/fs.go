package cluster

import "github.com/peerhq/peer/cluster/internal/datadir"

// FS is where a peer keeps its data dir: the seam between this package and
// the disk. The zero Config uses the real one; tests put a faulty or an
// in-memory one here. Its errors are those of package os: a missing file
// satisfies errors.Is(err, fs.ErrNotExist), a full disk syscall.ENOSPC. All
// methods may be called from any goroutine.
type FS interface {
	// ReadFile returns the whole of name.
	ReadFile(name string) ([]byte, error)
	// WriteFile replaces name, or makes it, with mode 0600. A reader, and a
	// reader after a power cut, finds the old data or the new and nothing in
	// between; once it has returned nil the new data is on the disk.
	WriteFile(name string, data []byte) error
	// Rename moves old over new, which need not exist.
	Rename(old, new string) error
	// MkdirAll makes dir and its missing parents with mode 0700. A dir that
	// exists is left as it is.
	MkdirAll(dir string) error
}

// Disk returns the machine's own file system.
func Disk() FS { return datadir.Disk() }
