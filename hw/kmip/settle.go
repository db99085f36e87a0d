package kmip

import (
	"encoding/binary"
	"fmt"
	"slices"

	kmipgo "github.com/ovh/kmip-go"
	"github.com/ovh/kmip-go/payloads"
)

// settle hands the items of an answer to their calls. A call stays open where a smaller message may serve it better; then
// the limit is smaller afterwards.
func (s *session) settle(batch []*call, resp *kmipgo.ResponseMessage) error {
	items := resp.BatchItem
	if len(batch) == 1 && len(items) == 1 {
		s.settleItem(batch[0], &items[0], false)
		return nil
	}
	calls := pair(batch, items)
	if calls == nil { // a refusal of the message as a whole, only the part before an error, or a muddle: nothing of it counts
		wipeResponse(resp)
		if len(batch) == 1 {
			batch[0].finish(nil, babble("%d items answer one request", len(items)))
			return nil
		}
		s.shrink(len(batch))
		return nil
	}
	mixed := false
	for i := range items {
		mixed = s.settleItem(calls[i], &items[i], len(batch) > 1) || mixed
	}
	switch {
	case !slices.ContainsFunc(batch, func(c *call) bool { return !c.done }):
	case mixed: // find out whether it is the object or the batch
		s.limit = max(1, len(batch)/4)
	default:
		s.shrink(len(batch))
	}
	return nil
}

// pair finds the call of each item, by id where the server repeats ids, else by position. It is nil unless each item
// answers a call of its own: an answer of which a part is wrong is wrong.
func pair(batch []*call, items []kmipgo.ResponseBatchItem) []*call {
	byID := slices.ContainsFunc(items, func(i kmipgo.ResponseBatchItem) bool { return len(i.UniqueBatchItemID) > 0 })
	if !byID {
		if len(items) != len(batch) {
			return nil
		}
		return batch
	}
	var calls []*call
	for i := range items {
		id := items[i].UniqueBatchItemID
		if len(id) != 4 || binary.BigEndian.Uint32(id) >= uint32(len(batch)) { //nolint:gosec // at most the batch size
			return nil
		}
		c := batch[binary.BigEndian.Uint32(id)]
		if slices.Contains(calls, c) {
			return nil
		}
		calls = append(calls, c)
	}
	return calls
}

// settleItem finishes a call, unless the item says that it may fare better in a smaller message. mixed tells that the item
// is about another object than was asked for, which a smaller message may mend too.
func (s *session) settleItem(c *call, item *kmipgo.ResponseBatchItem, inBatch bool) (mixed bool) {
	if item.ResultStatus != kmipgo.ResultStatusSuccess {
		wipePayload(item.ResponsePayload)
		if inBatch && (item.ResultReason == kmipgo.ResultReasonResponseTooLarge || item.ResultReason == kmipgo.ResultReasonOperationCanceledByRequester) {
			return false
		}
		c.finish(nil, itemError(item))
		return false
	}
	if item.ResponsePayload == nil || item.Operation != c.request.Operation() {
		wipePayload(item.ResponsePayload)
		c.finish(nil, babble("the item answers another operation"))
		return false
	}
	if asked, told := about(c.request), about(item.ResponsePayload); asked != told {
		wipePayload(item.ResponsePayload)
		if !inBatch {
			c.finish(nil, somebodyElses(told, asked))
			s.limit = s.accepted
		}
		return true
	}
	c.finish(item.ResponsePayload, nil)
	return false
}

// about is the unique id that a payload concerns; empty for those that concern none.
func about(p kmipgo.OperationPayload) string {
	switch p := p.(type) {
	case *payloads.GetRequestPayload:
		return p.UniqueIdentifier
	case *payloads.GetResponsePayload:
		return p.UniqueIdentifier
	case *payloads.GetAttributesRequestPayload:
		return p.UniqueIdentifier
	case *payloads.GetAttributesResponsePayload:
		return p.UniqueIdentifier
	}
	return ""
}

func somebodyElses(told, asked string) *Error {
	return &Error{Code: CodeProtocol, Cause: fmt.Errorf("the server gave another object (%q) than was asked for (%q): it is not used", told, asked), Hint: "look at the server: it mixes objects up"}
}

func (s *session) shrink(from int) {
	s.limit = max(1, min(s.limit, from)/4)
	s.accepted = s.limit
	if s.onShrink != nil {
		s.onShrink(s.limit)
	}
}
