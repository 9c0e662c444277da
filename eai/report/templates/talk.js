const slides = [...document.querySelectorAll("section")];
const distance = slide => Math.abs(slide.getBoundingClientRect().top);
const current = () => slides.reduce((best, slide, i) => distance(slide) < distance(slides[best]) ? i : best, 0);
const go = step => slides[Math.max(0, Math.min(slides.length - 1, current() + step))].scrollIntoView();
addEventListener("keydown", event => {
  if (["ArrowRight", "ArrowDown", "PageDown", " "].includes(event.key)) { event.preventDefault(); go(1); }
  if (["ArrowLeft", "ArrowUp", "PageUp"].includes(event.key)) { event.preventDefault(); go(-1); }
  if (event.key === "s") document.body.classList.toggle("script");
});
