package datadir

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// FS is the seam between this package and the disk, the same as cluster.FS. Its
// errors are those of package os: a missing file satisfies
// errors.Is(err, fs.ErrNotExist), a full disk syscall.ENOSPC. All methods may be
// called from any goroutine.
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
func Disk() FS { return osFS{} }

// osFS is the machine's own file system.
type osFS struct{}

func (osFS) ReadFile(name string) ([]byte, error) { return os.ReadFile(name) }

func (osFS) WriteFile(name string, data []byte) error {
	// The temporary file lies beside its target: another directory may be
	// another file system, or one that others may write to. renameio.WriteFile
	// would keep the mode of an existing file, TempFile makes it 0600.
	dir := filepath.Dir(name)
	f, err := renameio.TempFile(dir, name)
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	defer f.Cleanup() //nolint:errcheck // the first error is the one that counts
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := f.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return syncDir(dir)
}

func (osFS) Rename(old, new string) error {
	if err := os.Rename(old, new); err != nil {
		return err
	}
	return syncDir(filepath.Dir(new))
}

func (osFS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o700) }

// syncDir makes the names in dir survive a power cut: the rename of a file is
// a change of its directory, and the file's own fsync does not cover it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close() //nolint:errcheck // opened for reading
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
