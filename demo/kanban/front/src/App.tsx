/* The page: its boards, and the one that is open. */
import { useEffect, useState } from "react";
import { useConnection, useLive, useWatch } from "rest-channels/react";
import { api } from "./api";
import { BoardView } from "./BoardView";

const openBoard = () => Number(location.hash.slice(1)) || null;

export function App() {
  const { rows: boards, status } = useLive(api.boards);
  const { data: counts } = useWatch(api.boards, "counts");
  const [chosen, choose] = useState(openBoard);
  useEffect(() => {
    const follow = () => choose(openBoard());
    addEventListener("hashchange", follow);
    return () => removeEventListener("hashchange", follow);
  }, []);
  const board = boards.find(({ id }) => id === chosen) ?? boards[0];
  useEffect(() => {
    document.title = board?.title ?? "Boards";
  }, [board?.title]);

  return (
    <>
      <header className="bar">
        <span className="brand" aria-hidden="true">
          <i /> Boards
        </span>
        <nav aria-label="Boards">
          {boards.map(({ id, title }) => (
            <a key={id} href={`#${id}`} aria-current={id === board?.id ? "page" : undefined}>
              {title} <span className="count">{counts?.boards[id] ?? 0}</span>
            </a>
          ))}
        </nav>
        <Connection />
      </header>
      {board ? (
        <BoardView key={board.id} board={board} counts={counts?.columns ?? {}} />
      ) : (
        <p className="nothing">{status === "connecting" ? "One moment …" : "You are not a member of any board."}</p>
      )}
    </>
  );
}

function Connection() {
  const { name } = useConnection(api);
  const texts = { connected: "Live", connecting: "Connecting …", waiting: "Offline: changes are kept", "signed-out": "Signed out", closed: "Closed" };
  return (
    <p className={`connection ${name}`} role="status">
      {name === "signed-out" ? <a href="/sign-in/?next=/kanban/">Sign in again</a> : texts[name]}
    </p>
  );
}
