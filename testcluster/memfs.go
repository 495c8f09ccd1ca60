package testcluster

import (
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/peerhq/peer/cluster"
)

var _ cluster.FS = (*MemFS)(nil)

// MemFS is a file system in memory that can be made to fail. The zero value is
// empty. All methods may be called from any goroutine.
type MemFS struct {
	mu    sync.Mutex
	files map[string][]byte
	dirs  map[string]bool
	fail  error
}

// Fail makes every change from now on fail with err, such as syscall.ENOSPC or
// syscall.EROFS; nil mends it.
func (m *MemFS) Fail(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = err
}

// Files returns the names of all files, sorted.
func (m *MemFS) Files() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files))
}

// Spoil replaces a file's content, whether or not changes fail.
func (m *MemFS) Spoil(name string, change func([]byte) []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = change(slices.Clone(m.files[name]))
}

// ReadFile returns a copy of the file.
func (m *MemFS) ReadFile(name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.files[filepath.Clean(name)]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return slices.Clone(b), nil
}

// WriteFile replaces the file.
func (m *MemFS) WriteFile(name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	switch {
	case m.fail != nil:
		return &fs.PathError{Op: "write", Path: name, Err: m.fail}
	case !m.dirs[filepath.Dir(name)]:
		return &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if m.files == nil {
		m.files = map[string][]byte{}
	}
	m.files[name] = slices.Clone(data)
	return nil
}

// Rename moves old over new.
func (m *MemFS) Rename(old, new string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	old, new = filepath.Clean(old), filepath.Clean(new)
	b, ok := m.files[old]
	switch {
	case m.fail != nil:
		return &fs.PathError{Op: "rename", Path: old, Err: m.fail}
	case !ok || !m.dirs[filepath.Dir(new)]:
		return &fs.PathError{Op: "rename", Path: old, Err: fs.ErrNotExist}
	}
	delete(m.files, old)
	m.files[new] = b
	return nil
}

// MkdirAll makes dir and its parents.
func (m *MemFS) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir = filepath.Clean(dir)
	if m.dirs[dir] {
		return nil
	}
	if m.fail != nil {
		return &fs.PathError{Op: "mkdir", Path: dir, Err: m.fail}
	}
	if m.dirs == nil {
		m.dirs = map[string]bool{}
	}
	for ; !m.dirs[dir]; dir = filepath.Dir(dir) {
		m.dirs[dir] = true
	}
	return nil
}
