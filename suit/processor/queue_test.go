// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
)

// run passes src through a queue and returns what its reader got, and both ends' errors.
func runQueue(src io.Reader, also io.Writer, read func(q *queue) ([]byte, error)) (got []byte, filled, readErr error) {
	q := newQueue()
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, readErr = read(q)
		q.stop(readErr)
	}()
	filled = q.fill(src, also)
	<-done
	q.free()
	return got, filled, readErr
}

func byNext(q *queue) (all []byte, err error) {
	for {
		piece, err := q.Next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, piece...)
	}
}

func byRead(q *queue) ([]byte, error) { return io.ReadAll(q) }

func TestQueue(t *testing.T) {
	for _, size := range []int{0, 1, pieceBytes - 1, pieceBytes, pieceBytes + 1, 5 * pieceBytes, 7*pieceBytes + 11} {
		content := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{1}).Read(content)
		for name, read := range map[string]func(*queue) ([]byte, error){"next": byNext, "read": byRead} {
			for how, src := range map[string]io.Reader{
				"whole": bytes.NewReader(content), "halves": iotest.HalfReader(bytes.NewReader(content)),
				"error with data": iotest.DataErrReader(bytes.NewReader(content)),
			} {
				var also bytes.Buffer
				got, filled, err := runQueue(src, &also, read)
				if filled != nil || err != nil || !bytes.Equal(got, content) || !bytes.Equal(also.Bytes(), content) {
					t.Errorf("%d bytes, %s, %s: %d read, %d beside it, %v, %v", size, name, how, len(got), also.Len(), filled, err)
				}
			}
		}
	}
}

// TestQueueErrors: an end that is none stays what it is, wherever it comes, and neither end waits for the other for ever.
func TestQueueErrors(t *testing.T) {
	content := make([]byte, 9*pieceBytes+5)
	broken := errors.New("broken")
	for _, cause := range []error{io.ErrUnexpectedEOF, broken} {
		for _, size := range []int{0, 5, pieceBytes, len(content)} {
			src := io.MultiReader(bytes.NewReader(content[:size]), iotest.ErrReader(cause))
			got, filled, err := runQueue(src, io.Discard, byNext)
			if !errors.Is(filled, cause) || !errors.Is(err, cause) || len(got) > size {
				t.Errorf("%v after %d bytes: %d read, %v, %v", cause, size, len(got), filled, err)
			}
		}
	}
	if _, filled, _ := runQueue(bytes.NewReader(content), io.Discard, func(q *queue) ([]byte, error) {
		_, _ = q.Next()
		return nil, broken
	}); !errors.Is(filled, broken) {
		t.Errorf("a reader that went: %v", filled)
	}
	limit := &boundedWriter{dst: io.Discard, left: 2 * pieceBytes}
	if _, filled, err := runQueue(bytes.NewReader(content), limit, byNext); !errors.Is(filled, ErrLimit) || !errors.Is(err, ErrLimit) {
		t.Errorf("a limit: %v, %v", filled, err)
	}
}
